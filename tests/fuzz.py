"""Damage files of every kind that the program reads, and count what it makes of them.

    python tests/fuzz.py --minutes=5

Each input is a valid file with bytes or values changed at random. It must be read, or refused with
a UserError: never a traceback, more than 30 seconds or 2 GB; and where a checksum belongs to it,
never another number than was written. Exits with 1 where one is not. tests/test_fuzz.py runs a
short fixed set.
"""

import argparse
import collections
import contextlib
import dataclasses
import importlib.util
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import PIL.Image

from dreamfusion_jax.api import generate
from dreamfusion_jax.diffusion.load import load_prior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.camera_paths import camera_path
from dreamfusion_jax.export.index import write_index
from dreamfusion_jax.export.report import write_report
from dreamfusion_jax.furniture.catalog import open_source
from dreamfusion_jax.io import read_image
from dreamfusion_jax.pretrained.embedding_cache import EmbeddingCache
from dreamfusion_jax.prompts.prompt_files import read_prompts
from dreamfusion_jax.train.checkpoint import restore_run
from dreamfusion_jax.train.metrics import read_metrics

_LENS = {"elevation": 0.3, "distance": 3.0, "focal": 2.0}
_SECONDS, _BYTES = 30, 2 * 1024**3
_VALUES = (None, True, -1, 0, 3, 1e12, 10**400, float("nan"), float("inf"), "", "x", [], {}, [[1]])
_VALUES += ([-1, "a"], {"a": None}, 0.5, "../../x", "\ud800", 2**31, -(2**63))


class Hang(BaseException):
    """An input took too long."""


@dataclasses.dataclass
class Kind:
    """A kind of input: the files to damage, and what reads them; `same` compares two readings."""

    files: list[Path]
    read: Callable[[], Any]
    same: bool = False  # whether what is read must equal what was written


def kinds(folder: Path) -> dict[str, Kind]:
    """Writes a valid input of every kind."""
    os.environ["DREAMFUSION_CACHE"] = str(folder / "cache")
    found = {}
    run = folder / "run"
    small = {
        "train.steps": 4,
        "stages.surface.begin": 1.0,
        "train.steps_per_call": 2,
        "train.batch_size": 1,
        "train.image_size": 8,
    }
    small |= {"train.checkpoint_every": 2, "train.preview_every": 4}
    small |= {"export.turntable_frames": 2, "export.turntable_size": 16}
    with contextlib.suppress(UserError):  # so short a run has no surface
        generate("a table", workdir=run, progress=False, **small)
    arrays = [p for p in (run / "checkpoints").rglob("*") if p.is_file()]
    found["checkpoint"] = Kind(arrays, lambda: _arrays(restore_run(run).params), same=True)
    found["config"] = Kind([run / "config.json"], lambda: restore_run(run).scene)
    found["metrics"] = Kind([run / "metrics.jsonl"], lambda: (read_metrics(run), write_report(run)))
    scores = {"scores": {"iou": 0.5, "psnr": 20.0}, "retrieval_scores": {"color": 1.0, "geo": 0.5}}
    (run / "evaluation.json").write_text(json.dumps(scores))
    found["evaluation"] = Kind(
        [run / "evaluation.json"], lambda: (write_report(run), write_index(folder))
    )
    cache = EmbeddingCache("model", folder / "texts")
    cache.put("a table", jax.numpy.arange(64.0).reshape(4, 16))
    kept = list((folder / "texts").rglob("*.safetensors"))
    found["embeddings"] = Kind(kept, lambda: np.asarray(cache.get("a table")), same=True)
    image = folder / "picture.png"
    noise = np.random.default_rng(0).integers(0, 255, (9, 7, 4), np.uint8)
    PIL.Image.fromarray(noise).save(image)
    found["picture"] = Kind([image], lambda: _image(image))
    found["prompts"] = Kind([_text(folder / "p.txt", "a table\n# b\na chair\n")], lambda: None)
    found["prompts"].read = lambda: read_prompts(folder / "p.txt")
    poses = [{"azimuth": 10.0 * i, "elevation": 15.0} for i in range(3)]
    found["angles"] = Kind([_text(folder / "a.json", json.dumps(poses))], lambda: None)
    found["angles"].read = lambda: camera_path(str(folder / "a.json"), 3, **_LENS)
    frame = {"transform_matrix": np.eye(4).tolist(), "file_path": "a.png"}
    transforms = {"camera_angle_x": 0.7, "frames": [frame, frame]}
    found["transforms"] = Kind([_text(folder / "t.json", json.dumps(transforms))], lambda: None)
    found["transforms"].read = lambda: camera_path(str(folder / "t.json"), 2, **_LENS)
    catalog = folder / "catalog" / "Scopia.sh3f"
    catalog.parent.mkdir()
    with zipfile.ZipFile(catalog, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = "id=A\nname#1=A\nmodel#1=/a.obj\nwidth#1=8\ndepth#1=6\nheight#1=7.5\n"
        archive.writestr("PluginFurnitureCatalog.properties", entry)
        archive.writestr("a.obj", "v 0 0 0\n")
    found["catalog"] = Kind([catalog], lambda: _catalog(catalog.parent))
    return found | _models(folder)


def _image(path: Path) -> Any:
    try:
        return read_image(path).shape
    except (OSError, ValueError) as error:  # what it promises; its callers name the picture
        raise UserError(f"{path} cannot be read ({error}).") from error


def _catalog(folder: Path) -> Any:
    shutil.rmtree(folder / "unpacked", ignore_errors=True)
    return open_source(folder)


def _models(folder: Path) -> dict[str, Kind]:
    """Published models, of tiny networks."""
    path = Path(__file__).parent.parent / "launch" / "make_model_folder.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    settings = _module(Path(__file__).parent / "pretrained" / "conftest.py")
    networks = settings.SD_UNET, settings.SD_VAE, settings.CLIP
    maker.write_stable_diffusion(folder / "sd", *networks, dtype="float32")
    maker.write_if(folder / "if", settings.IF_UNET, settings.T5, dtype="float32")
    found = {}
    for name in ("sd", "if"):
        files = sorted(p for p in (folder / name).rglob("*") if p.is_file())
        texts = [p for p in files if p.suffix != ".safetensors"]
        weights = [p for p in files if p.suffix == ".safetensors"]
        model = str(folder / name)
        found[f"{name} configs"] = Kind(texts, lambda m=model: load_prior(m).encode(["a"]).mask)
        found[f"{name} weights"] = Kind(weights, lambda m=model: load_prior(m).image_shape)
    return found


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _arrays(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def damaged(data: bytes, name: str, draw: random.Random) -> bytes:
    """Returns a file's content with something changed: bytes, or a value where it is JSON."""
    if name.endswith((".json", ".jsonl")) and draw.random() < 0.7:
        with contextlib.suppress(ValueError):
            return _other_value(data, draw)
    changed = bytearray(data)
    how = draw.randrange(4)
    # Headers are short and tell the most.
    start = draw.randrange(min(len(data), 400) or 1) if draw.random() < 0.5 else 0
    start = start or draw.randrange(len(data) or 1)
    if how == 0:
        for _ in range(draw.choice((1, 1, 4))):
            at = (start + draw.randrange(64)) % max(len(changed), 1)
            changed[at : at + 1] = bytes([draw.randrange(256)])
    elif how == 1:
        del changed[start:]
    elif how == 2:
        changed[start:start] = draw.randbytes(draw.choice((1, 8, 1000)))
    else:
        changed[start : start + 8] = draw.choice((b"\xff" * 8, b"\0" * 8, b"[" * 5000, b"9" * 5000))
    return bytes(changed)


def _other_value(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines() if data.count(b"\n{") else [data]
    number = draw.randrange(len(lines))
    tree = json.loads(lines[number])
    places = list(_places(tree))
    if not places:
        return json.dumps(draw.choice(_VALUES)).encode()
    parent, key = draw.choice(places)
    if draw.random() < 0.3:
        del parent[key]
    else:
        parent[key] = draw.choice(_VALUES)
    lines[number] = json.dumps(tree).encode()
    return b"\n".join(lines)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def try_one(kind: Kind, expected: Any, draw: random.Random) -> str:
    """Returns "read", "refused" or what went wrong, for one damaged input."""
    path = draw.choice(kind.files)
    data = path.read_bytes()
    changed = damaged(data, path.name, draw)
    if changed == data:
        return "read"
    path.write_bytes(changed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_SECONDS)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            found = kind.read()
        result = "read"
        if kind.same and found is not None and not _equal(found, expected):
            result = f"another number without a word: {path.name}"
    except UserError:
        result = "refused"
    except Hang:
        result = f"more than {_SECONDS} s: {path.name}"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)
        own = [f for f in where if "dreamfusion_jax" in f.filename] or where
        place = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
        result = f"{type(error).__name__} at {place} ({path.name}): {str(error)[:80]}"
    finally:
        signal.alarm(0)
        path.write_bytes(data)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return f"{grown / 1e6:.1f} GB: {path.name}" if 1024 * grown > _BYTES else result


def _give_up(*_: Any) -> None:
    raise Hang


def _equal(a: Any, b: Any) -> bool:
    # None in an array of objects: the cache has no such text.
    return np.asarray(a).dtype == object or np.array_equal(a, b)


def fuzz(folder: Path, seed: int, go_on: Callable[[int], bool]) -> dict[str, collections.Counter]:
    """Damages inputs of all kinds in turn while go_on(how many there were); counts results."""
    draw = random.Random(seed)
    inputs = kinds(folder)
    expected = {name: kind.read() for name, kind in inputs.items()}
    counts = {name: collections.Counter() for name in inputs}
    spent = dict.fromkeys(inputs, 0.0)
    number = 0
    while go_on(number):
        # Whichever has had the least time: slow kinds get fewer inputs.
        name = min(inputs, key=spent.get)
        began = time.perf_counter()
        counts[name][try_one(inputs[name], expected[name], draw)] += 1
        spent[name] += time.perf_counter() - began
        number += 1
    return counts


def failures(counts: dict[str, collections.Counter]) -> list[str]:
    """The results that must not be, a line each."""
    return [
        f"{name}: {number} x {result}"
        for name, results in counts.items()
        for result, number in results.most_common()
        if result not in ("read", "refused")
    ]


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        end = None

        def go_on(number: int) -> bool:
            nonlocal end
            end = end or time.monotonic() + 60 * options.minutes
            return time.monotonic() < end

        counts = fuzz(Path(folder), options.seed, go_on)
    for name, results in counts.items():
        print(f"{name}: {results['read']} read, {results['refused']} refused")
    wrong = failures(counts)
    print(f"{sum(sum(c.values()) for c in counts.values())} inputs, {len(wrong)} kinds of failure")
    print("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
