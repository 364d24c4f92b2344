"""Lists of prompts, which are also the captions that R-Precision ranks."""

import ast
import os
from collections.abc import Sequence
from pathlib import Path

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import read_json, read_text
from dreamfusion_jax.prompts.text import check_prompts, read_lines

_COCO = "coco_captions:"


def read_captions(source: str | os.PathLike) -> list[str]:
    """Return captions in their order.

    Args:
      source: a text file with one caption a line (not those that begin with #); a .json file with
        a list of them; a .py file with `queries = [...]`, as Dream Fields' 153 captions of
        object-centric COCO are published (they are read as there: lower case, one full stop; no
        code is run); or "coco_captions:FILE", FILE with the ids of captions, one a line, of TFDS'
        coco_captions, which must be prepared in TFDS_DATA_DIR ([data] extra).

    Raises:
      UserError: it cannot be read, or two captions are the same (they are named).
    """
    captions, _ = _read(os.fspath(source))
    check_captions(captions, os.fspath(source))
    return captions


def read_prompts(source: str | os.PathLike) -> list[str]:
    """Return prompts that can each have a folder; `source` as for `read_captions`.

    Raises:
      UserError: it cannot be read or holds none; one cannot be used, or two would share a folder
        (they are named).
    """
    prompts, places = _read(os.fspath(source))
    check_prompts(prompts, places)
    return prompts


def _read(name: str) -> tuple[list[str], list[str]]:
    """Return the captions, and where each stands."""
    if name.startswith(_COCO):
        captions = coco_captions(_ids(name.removeprefix(_COCO)))
    elif name.lower().endswith(".py"):
        captions = _published(Path(name))
    elif name.lower().endswith(".json"):
        captions = _json(Path(name))
    else:
        lines = read_lines(name)
        return [line for _, line in lines], [f"line {number} of {name}" for number, _ in lines]
    return captions, [f"caption {i} of {name}" for i in range(1, len(captions) + 1)]


def caption_key(caption: str) -> str:
    """Return what makes two captions the same: neither case nor the full stop does."""
    return " ".join(caption.lower().split()).strip(" .,")


def check_captions(captions: Sequence[str], source: str) -> None:
    """Raise a UserError where there are less than two captions, or two that are the same."""
    if len(captions) < 2:
        raise UserError(f"{source} holds {len(captions)} captions; R-Precision ranks at least two.")
    seen: dict[str, int] = {}
    for i, caption in enumerate(captions, 1):
        first = seen.setdefault(caption_key(caption), i)
        if first != i:
            raise UserError(
                f"Captions {first} and {i} of {source} are the same ({caption!r}); remove one."
            )


def _published(path: Path) -> list[str]:
    try:
        tree = ast.parse(read_text(path))
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"The captions in {path} cannot be read ({error}).") from error
    for node in tree.body:
        if not isinstance(node, ast.Assign) or getattr(node.targets[0], "id", "") != "queries":
            continue
        if isinstance(node.value, ast.List):
            found = [getattr(element, "value", None) for element in node.value.elts]
            captions = [caption for caption in found if isinstance(caption, str)]
            if len(captions) == len(found):
                return [caption.lower().strip(" .,") + "." for caption in captions]
    raise UserError(f"{path} has no list `queries = [...]` of captions.")


def _json(path: Path) -> list[str]:
    try:
        found = read_json(path, list)
    except (OSError, ValueError) as error:
        raise UserError(f"The captions in {path} cannot be read ({error}).") from error
    if not all(isinstance(x, str) and x.strip() for x in found):
        raise UserError(f"{path} is not a list of captions.")
    return found


def _ids(path: str) -> list[int]:
    ids = [line for _, line in read_lines(path)]
    if wrong := [line for line in ids if not line.isdigit()]:
        raise UserError(f"{path} holds {wrong[0]!r}, which is no id of a caption.")
    return [int(line) for line in ids]


def coco_captions(ids: Sequence[int]) -> list[str]:
    """Return captions of TFDS' coco_captions, in the order of the ids.

    Raises:
      UserError: the data set is not prepared, or has no caption of an id.
    """
    folder = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    prepared = sorted((folder / "coco_captions").glob("**/features.json"))
    if not prepared:
        raise UserError(
            f"{folder} holds no coco_captions; prepare it with "
            "`tfds build coco_captions --file_format=array_record`, or set TFDS_DATA_DIR."
        )
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(str(prepared[-1].parent))
        images = {"image": tfds.decode.SkipDecoding()}
        sources = [builder.as_data_source(s, decoders=images) for s in sorted(builder.info.splits)]
        wanted, found = set(ids), {}
        for row in (row for source in sources for row in source):
            texts = row["captions"]["text"]
            for number, text in zip(row["captions"]["id"], texts, strict=True):
                if int(number) in wanted:
                    found[int(number)] = text.decode().strip()
    except ImportError as error:
        raise UserError(
            "Reading coco_captions needs more packages: pip install 'dreamfusion_jax[data]'."
        ) from error
    except Exception as error:  # tfds raises many kinds
        raise UserError(
            f"{prepared[-1].parent} cannot be read ({error}); prepare it again with "
            "`tfds build coco_captions --file_format=array_record`."
        ) from error
    if missing := [number for number in ids if number not in found]:
        raise UserError(f"coco_captions has no caption {missing[0]}, and lacks {len(missing)} ids.")
    return [found[number] for number in ids]
