"""The NOTICE file: who made the objects that the shipped pictures show.

python -m dreamfusion_jax.furniture.notice > NOTICE
"""

from dreamfusion_jax.furniture import object_views

HEAD = """dreamfusion_jax

The code is under the Apache License 2.0 (LICENSE).

The meshes in dreamfusion_jax/furniture/assets/object_meshes, the pictures in
dreamfusion_jax/furniture/assets/object_views and launch/images, the pictures and
surface points in dreamfusion_jax/furniture/assets/ground_truth, and the weights and samples in
dreamfusion_jax/furniture/assets/unet, which were trained on such pictures, are made from 3D
models of the furniture libraries of Sweet Home 3D (https://www.sweethome3d.com), as packaged by
Debian in sweethome3d-furniture 1.8-1. Changes: the models were turned, scaled, simplified and
rendered in small pictures, their textures were made smaller, glass was drawn opaque, and points
were drawn on their surfaces. The weights in
dreamfusion_jax/furniture/assets/evaluator were trained on other pictures of the same models. The
authors of the models do not endorse this work.

The word vectors in dreamfusion_jax/prompts/word_vectors.npz are made from all-MiniLM-L6-v2 of the
Sentence Transformers team (Apache License 2.0).

Licenses of the models:
  CC0-1.0       https://creativecommons.org/publicdomain/zero/1.0/
  CC-BY-3.0     https://creativecommons.org/licenses/by/3.0/
  CC-BY-3.0-US  https://creativecommons.org/licenses/by/3.0/us/

Models of the catalog Scopia: (C) 2006-2020 Scopia Visual Interfaces Systems, s.l.
(https://www.scopia.es) and (C) 2014-2020 Emmanuel Puybaret / eTeks <info@eteks.com>.
Models of the catalog KatorLegaz: (C) 2003-2008 Andrew Kator and Jennifer Legaz.
Models of the catalogs BlendSwap-CC-0 and BlendSwap-CC-BY: by the creators named below,
from https://www.blendswap.com, converted to OBJ by Emmanuel Puybaret / eTeks.

Noun in this package: model, its title, creator, license
"""


def notice(objects: list[dict]) -> str:
    """Return the text for the objects of a library's index."""
    lines = [
        f'  {o["noun"]}: {o["object"]}, "{o["name"]}", {o["creator"]}, {o["license"]}'
        for o in sorted(objects, key=lambda o: o["noun"].lower())
    ]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(notice(object_views.read_index(object_views.OBJECT_VIEWS)["objects"]), end="")
