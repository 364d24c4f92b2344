"""Pages show names as they are, whatever is in them."""

import html.parser
import json

import PIL.Image
import pytest

from dreamfusion_jax.export.index import write_index
from dreamfusion_jax.export.markup import Html, fill, join, link_to
from dreamfusion_jax.export.report import write_report

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)> $BODY$ $TITLE$ {name} &amp;"


def test_values_are_text_unless_they_are_html():
    found = fill('<a title="{a}">{b}{c}</a>', a='"<', b=Html("<b>"), c="{b}&")
    assert found == '<a title="&quot;&lt;"><b>{b}&amp;</a>'
    assert join(["<", Html("<i>")], "<br>") == "&lt;<br><i>"
    assert link_to("javascript:alert(1)", 'a"b') == "./javascript%3Aalert%281%29/a%22b"


class _Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("page", ["index", "report"])
def test_hostile_names_stay_text(tmp_path, page):
    folder = tmp_path / HOSTILE.replace("/", ";")[:120]
    run = folder / HOSTILE.replace("/", ";")[:120]
    (run / "previews").mkdir(parents=True)
    config = {"prompt": {"text": HOSTILE}, "seed": HOSTILE, "train": {"steps": HOSTILE}}
    (run / "config.json").write_text(json.dumps(config))
    PIL.Image.new("RGB", (8, 8)).save(run / "previews" / "1.png")
    (run / "report.html").write_text("")
    scores = {"scores": {"iou": 0.5, "psnr": 20.0, "chamfer": None, "noun": HOSTILE}}
    scores["scores"] |= {"azimuth": 1.0, "scale": 1.0}
    if page == "index":
        scores["scores"] |= {"iou": HOSTILE, "psnr": HOSTILE}
    (run / "evaluation.json").write_text(json.dumps(scores))
    path = write_index(folder) if page == "index" else write_report(run)
    tags = _Tags()
    tags.feed(path.read_text())
    assert "script" not in tags.tags and not [a for a, _ in tags.attributes if a.startswith("on")]
    assert tags.text.count("<script>alert(1)</script>") >= 2 and "$BODY$" in tags.text


@pytest.mark.parametrize("damage", ["[]", '{"scores": 3}', '{"scores": {"iou": "x"}}', "[" * 9999])
def test_damaged_scores_are_left_out(tmp_path, damage):
    (tmp_path / "config.json").write_text(json.dumps({"prompt": {"text": "a cat"}, "train": 3}))
    (tmp_path / "evaluation.json").write_text(damage)
    assert "a cat" in write_report(tmp_path).read_text()
    assert "a cat" in write_index(tmp_path.parent).read_text()
