"""Where the data of the library is: beside the package, or in a checkout that the user names.

A wheel has what the default prior needs, `object_views`, and leaves out the rest.
"""

import os
from pathlib import Path

from dreamfusion_jax.errors import UserError

ASSETS = Path(__file__).parent / "assets"
VARIABLE = "DREAMFUSION_ASSETS"
_WHAT = {
    "evaluator": "the retrieval evaluator",
    "ground_truth": "the true objects of the evaluation",
    "object_meshes": "the meshes of the prior furniture-objects",
    "object_views": "the pictures of the default prior",
    "unet": "the prior furniture-unet",
}


def asset_folder(name: str) -> Path:
    """Return the folder of one of the assets: evaluator, ground_truth, object_meshes,
    object_views or unet.

    It is looked for beside the package, as in a checkout, then in the folder that the environment
    variable DREAMFUSION_ASSETS names.

    Raises:
      UserError: it is in neither.
    """
    named = os.environ.get(VARIABLE)
    for place in (ASSETS, *([Path(named).expanduser()] if named else [])):
        if (place / name).is_dir():
            return place / name
    raise UserError(
        f"{_WHAT[name][0].upper()}{_WHAT[name][1:]} ({name}) is missing: the wheel leaves it out; "
        f"use a checkout of the repository, or set {VARIABLE} to the folder "
        f"dreamfusion_jax/furniture/assets of one{f' (it is {named!r})' if named else ''}."
    )
