import html
import html.parser
import json
import re

import numpy as np
import PIL.Image
import pytest
import trimesh

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.mesh_files import write_mesh
from dreamfusion_jax.export.report import write_report
from dreamfusion_jax.export.video import write_video


@pytest.fixture
def workdir(tmp_path):
    """A run's folder with all its files, a line of the metrics cut off."""
    (tmp_path / "config.json").write_text(json.dumps({"prompt": {"text": "a <b> & c"}, "seed": 7}))
    rows = [{"step": s, "sds_residual": 1 / s, "opacity": None} for s in (25, 50, 75)]
    text = "".join(json.dumps(r) + "\n" for r in rows) + '{"step": 100, "resid'
    (tmp_path / "metrics.jsonl").write_text(text)
    (tmp_path / "previews").mkdir()
    for step in (250, 1000, 500):
        PIL.Image.new("RGB", (8, 8)).save(tmp_path / "previews" / f"{step}.png")
    write_video([np.zeros((16, 48, 3), np.uint8)] * 2, tmp_path / "turntable.mp4", 8)
    mesh = trimesh.creation.box()
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=PIL.Image.new("RGB", (4, 4)))
    mesh.visual = trimesh.visual.TextureVisuals(mesh.vertices[:, :2], material=material)
    write_mesh(mesh, tmp_path / "mesh.glb")
    scores = {"noun": "bear", "iou": 0.8125, "psnr": 21.0, "chamfer": None}
    scores |= {"azimuth": -3.0, "scale": 1.1}
    retrieval_scores = {"color": 0.875, "geo": 0.5, "janus": False}
    (tmp_path / "evaluation.json").write_text(
        json.dumps({"scores": scores, "retrieval_scores": retrieval_scores, "step": 75})
    )
    return tmp_path


class _Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "data", "poster", "srcset")]


def test_page_holds_everything_and_loads_nothing(workdir):
    page = write_report(workdir).read_text()
    parser = _Links()
    parser.feed(page)
    assert parser.links and all(link.startswith("data:") for link in parser.links)
    own = re.sub(r'srcdoc="[^"]*"', "", page)
    assert not re.search(r"https?://|@import|url\(", own)
    assert "sRGBEncoding;renderer.setPixelRatio" in page  # colors as they were baked
    viewer = _Links()
    viewer.feed(html.unescape(re.search(r'srcdoc="([^"]*)"', page)[1]))
    assert not viewer.links and "canvas" not in own
    assert {"video", "iframe", "svg", "img", "pre", "table"} <= set(parser.tags)
    assert "a &lt;b&gt; &amp; c" in own and "<b>" not in own
    assert "<td>88%</td>" in own and "<td>no</td>" in own
    assert "0.812" in page and "no surface" in page and "&quot;seed&quot;: 7" in page
    assert re.findall(r"step (\d+)</figcaption>", page) == ["250", "500", "1000"]
    assert own.count("<svg") == 1  # opacity has no values
    assert "$" not in own


def test_a_run_that_was_interrupted_early_has_a_page_too(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"prompt": {"text": "a teapot"}}))
    page = write_report(tmp_path).read_text()
    assert "a teapot" in page and "<video" not in page and "<iframe" not in page


def test_halves_of_characters_become_question_marks(tmp_path):
    (tmp_path / "config.json").write_text(r'{"prompt": {"text": "a \ud800 teapot"}}')
    assert "a ? teapot" in write_report(tmp_path).read_text()


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())
