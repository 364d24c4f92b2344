import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.prompts.prompt_files import read_prompts
from dreamfusion_jax.prompts.text import check_prompt, check_prompts, read_lines, slug


def test_slugs():
    assert slug("A DSLR photo of a Café, 3/4 view!") == "a-dslr-photo-of-a-café-3-4-view"
    assert slug("猫") == "猫" and slug("?!").startswith("prompt-")
    assert len(slug("a very long story " * 20)) <= 80


def test_prompts_are_read_without_comments_and_empty_lines(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("# animals\n a cat \n\na dog\n")
    assert read_prompts(path) == ["a cat", "a dog"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no prompt"),
        (b"# only this\n", "holds no prompt"),
        (b"a cat\na dog\nA  cat!\n", r"Line 1 of .* and line 3 of .* are the same prompt.*a-cat"),
        (b"a cat\n" + b"x" * 500, r"Line 2 of .* has 500 characters"),
        (b"a cat\n\xff\xfe\n", "not UTF-8"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_prompts(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_prompts(tmp_path / "none.txt")


def test_prompts_have_bounds():
    for prompt in ("", "  ", "x" * 401):
        with pytest.raises(UserError):
            check_prompt(prompt)


def test_lists_are_checked_like_files():
    check_prompts(["a cat", "a dog"])
    for prompts, message in (("a cat", "Give a list"), ([], "Give a list"), (["a", "A!"], "alike")):
        with pytest.raises(UserError, match=message):
            check_prompts(prompts)


def test_folders_of_accents_and_pictures():
    assert slug("an \u00e9clair") == slug("an e\u0301clair") == "an-\u00e9clair"
    assert slug("a \U0001f43b") == "a-bear-face" != slug("a \U0001f438")
    assert slug("!!!") != slug("???") and slug("!!!").startswith("prompt-")
    assert len(slug("\u732b" * 300).encode()) <= 200


def test_a_mark_at_the_beginning_of_a_file_is_no_part_of_a_prompt(tmp_path):
    (tmp_path / "prompts.txt").write_bytes("\ufeffa cat\na dog\n".encode())
    assert read_lines(tmp_path / "prompts.txt") == [(1, "a cat"), (2, "a dog")]
