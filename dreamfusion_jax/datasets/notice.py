"""The NOTICE file: who made the objects that the shipped pictures show.

python -m dreamfusion_jax.datasets.notice > NOTICE
"""

from dreamfusion_jax.datasets import library

HEAD = """dreamfusion_jax

The code is under the Apache License 2.0 (LICENSE).

The pictures in dreamfusion_jax/priors/furniture and launch/images, the pictures and surface
points in dreamfusion_jax/priors/furniture_truth, and the weights and samples in
dreamfusion_jax/priors/furniture_unet, which were trained on such pictures, are made from 3D
models of the furniture libraries of Sweet Home 3D (https://www.sweethome3d.com), as packaged by
Debian in sweethome3d-furniture 1.8-1. Changes: the models were turned, scaled and rendered in small
pictures, glass was drawn opaque, and points were drawn on their surfaces. The weights in
dreamfusion_jax/priors/furniture_judge were trained on other pictures of the same models. The
authors of the models do not endorse this work.

The word vectors in dreamfusion_jax/priors/word_vectors are made from all-MiniLM-L6-v2 of the
Sentence Transformers team (Apache License 2.0).

Licences of the models:
  CC0-1.0       https://creativecommons.org/publicdomain/zero/1.0/
  CC-BY-3.0     https://creativecommons.org/licenses/by/3.0/
  CC-BY-3.0-US  https://creativecommons.org/licenses/by/3.0/us/

Models of the catalogue Scopia: (C) 2006-2020 Scopia Visual Interfaces Systems, s.l.
(https://www.scopia.es) and (C) 2014-2020 Emmanuel Puybaret / eTeks <info@eteks.com>.
Models of the catalogue KatorLegaz: (C) 2003-2008 Andrew Kator and Jennifer Legaz.
Models of the catalogues BlendSwap-CC-0 and BlendSwap-CC-BY: by the creators named below,
from https://www.blendswap.com, converted to OBJ by Emmanuel Puybaret / eTeks.

Noun in this package: model, its title, creator, licence
"""


def notice(objects: list[dict]) -> str:
    """The text for the objects of a library's index."""
    lines = [
        f'  {o["noun"]}: {o["object"]}, "{o["name"]}", {o["creator"]}, {o["licence"]}'
        for o in sorted(objects, key=lambda o: o["noun"].lower())
    ]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(notice(library.read_index(library.LIBRARY)["objects"]), end="")
