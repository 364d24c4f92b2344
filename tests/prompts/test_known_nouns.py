"""What a prior with known nouns is told of prompts."""

import pathlib

import pytest

from dreamfusion_jax.diffusion.load import find_prior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture.chosen_objects import CHOICES
from dreamfusion_jax.furniture.suite import names
from dreamfusion_jax.prompts.known_nouns import first_phrase, read_prompt, with_article

EVERYDAY = pathlib.Path(__file__).parent / "everyday.txt"
NAMES = find_prior("embedded").known_nouns


def everyday():
    lines = [line for line in EVERYDAY.read_text().splitlines() if line and line[0] != "#"]
    return [tuple(line.split("\t")) for line in lines]


def noun_of(prompt: str) -> str:
    try:
        return names()[read_prompt(prompt, NAMES).name]
    except UserError:
        return "-"


@pytest.mark.parametrize("half", ["looked at", "not looked at"])
def test_everyday_prompts_are_read_as_people_would(half):
    prompts = everyday()[1 if half == "looked at" else 0 :: 2]
    wrong = [(p, wanted, noun_of(p)) for p, wanted in prompts if noun_of(p) != wanted]
    assert len(prompts) >= 95 and len(wrong) <= 0.05 * len(prompts), wrong


def test_nouns_and_synonyms_are_themselves():
    for choice in CHOICES:
        assert names()[read_prompt(with_article(choice.noun), NAMES).name] == choice.noun


@pytest.mark.parametrize(
    ("prompt", "prior_prompt", "left_out"),
    [
        ("a flower", "flowers", ()),
        ("two chairs", "a chair", ("two",)),
        ("a teddy bear sitting on a sofa", "a teddy bear", ("sitting", "on", "sofa")),
        ("a cute cat wearing a hat", "a cat", ("cute", "wearing", "hat")),
        ("a DSLR photo of an automobile, zoomed out", "a car", ()),
        ("a red armchair", "a red armchair", ()),
        ("a photo of a stone statue of a horse", "a horse", ("stone", "statue")),
        ("a slice of bread, 4k", "bread", ("slice",)),
        ("a purple metal table with a green vase", "a purple table", ("metal", "green", "vase")),
    ],
)
def test_what_is_left_out_is_named(prompt, prior_prompt, left_out):
    reading = read_prompt(prompt, NAMES)
    assert (reading.prior_prompt, reading.left_out) == (prior_prompt, left_out)


def test_colors_that_a_prior_does_not_know_are_left_out():
    reading = read_prompt("a red armchair", NAMES, colors=False)
    assert (reading.prior_prompt, reading.left_out) == ("an armchair", ("red",))


def test_replacements_are_told():
    reading = read_prompt("a mug", NAMES)
    assert reading.replaced.word == "mug" and reading.prior_prompt == "a cup"


def test_refusals_name_what_is_near_and_the_way_out():
    with pytest.raises(UserError, match=r"no 'dragon'.*nearest.*--config\.prior\.name=FOLDER"):
        read_prompt("a DSLR photo of a dragon", NAMES)
    with pytest.raises(UserError, match="did you mean 'chair'"):
        read_prompt("a chiar", NAMES)
    with pytest.raises(UserError, match="knows no"):
        read_prompt("the", NAMES)


def test_a_prior_that_knows_everything_is_told_the_prompt():
    assert read_prompt("a dragon, red", ()).prior_prompt == "a dragon, red"


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [
        ("a high quality photo of a pair of old boots", ["old", "boots"]),
        ("a rocking horse", ["rocking", "horse"]),
        ("my dog running fast", ["dog"]),
        ("a teapot, blue", ["teapot"]),
    ],
)
def test_first_phrases(prompt, phrase):
    assert first_phrase(prompt) == phrase


def test_articles():
    asked = ("armchair", "unicycle", "hat", "boots", "bus", "glass", "bread")
    expected = ("an armchair", "a unicycle", "a hat", "boots", "a bus", "a glass", "bread")
    assert tuple(map(with_article, asked)) == expected
