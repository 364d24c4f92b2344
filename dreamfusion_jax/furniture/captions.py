"""Captions of object views, drawn from what is known about the object.

Pure functions of a random generator and the parts; the words follow `prompts.views`, so
that a prompt of the text-to-3D program looks like a training caption.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dreamfusion_jax.furniture.catalog import Entry
from dreamfusion_jax.furniture.chosen_objects import CHOICES
from dreamfusion_jax.furniture.colors import WORDS
from dreamfusion_jax.prompts.known_nouns import with_article
from dreamfusion_jax.prompts.view_prompts import VIEW_WORDS, view_index

# Tags of the catalogs that name a kind of thing; the rest say where or how it is used.
NOUN_TAGS = frozenset(
    "Seat Couch Sofa Chair Armchair Bed Table Shelves Shelf Bookcase Bookshelf Cupboard Cabinet "
    "Closet Wardrobe Nightstand Drawer Appliance Cooker Oven Freezer Refrigerator Fridge Washer "
    "Dryer Television TV Radio Stereo Speaker Camera Laptop Notebook Computer Telephone "
    "Smartphone Toy Animal Food Drink Plant Tree Flowers Car Truck Motorbike Motorcycle Bicycle "
    "Bike Tool Clothes Shoes Trousers Shirt Bottle Vase Lamp Rug Carpet Basin Washbasin Kettle "
    "Fork Knife Spoon Pool Crib Mailbox Broom Jewelry Human".split()
)

TEMPLATES = (
    "{a}",
    "{a}, {view}",
    "{a}, {view}",
    "a photo of {a}",
    "a photo of {a}, {view}",
    "a DSLR photo of {a}",
    "a DSLR photo of {a}, {view}",
    "a DSLR photo of {a}, {view}",
    "a picture of {a}, {view}",
    "a 3D render of {a}, {view}",
    "a high quality photo of {a}, {view}",
    "{bare}",
    "{bare}, {view}",
)
SYNONYM_SHARE = 0.25
COLOR_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class CaptionParts:
    """What a caption of an object can say. `color` is "" where no color stands out."""

    noun: str
    synonyms: tuple[str, ...] = ()
    category: str = ""
    color: str = ""


def parts_of(entry: Entry, color: str = "") -> CaptionParts:
    """Return the parts of a catalog entry, with the library's words where it is in the library."""
    chosen = next((choice for choice in CHOICES if choice.uid == entry.uid), None)
    tags = tuple(tag.lower() for tag in entry.tags if tag in NOUN_TAGS)
    noun = chosen.noun if chosen else entry.name.lower()
    synonyms = chosen.synonyms if chosen else tuple(t for t in tags if t not in noun)
    return CaptionParts(noun, synonyms, entry.category.lower(), color)


def sample_caption(rng: np.random.Generator, parts: CaptionParts, view: str) -> str:
    """Return one caption; `view` is one of the view words."""
    noun = parts.noun
    if parts.synonyms and rng.random() < SYNONYM_SHARE:
        noun = parts.synonyms[rng.integers(len(parts.synonyms))]
    says_color = any(word in WORDS for word in noun.split())
    if parts.color and not says_color and rng.random() < COLOR_SHARE:
        noun = f"{parts.color} {noun}"
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    return template.format(a=with_article(noun), bare=noun, view=view)


def view_words(
    azimuth: Float[np.ndarray, "views"], elevation: Float[np.ndarray, "views"]
) -> list[str]:
    """Return the paper's view word of each camera: overhead above 60 degrees, else by quadrant."""
    index = view_index(jnp.asarray(azimuth), jnp.asarray(elevation))
    return [VIEW_WORDS[i] for i in np.asarray(index)]
