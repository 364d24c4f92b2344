import types

import numpy as np

from dreamfusion_jax.evaluation import renders


def test_the_default_views_are_the_papers(monkeypatch, truth_scene, params):
    """30 degrees of elevation, azimuths all around, and "geo" without texture."""
    seen = []

    def render_views(scene, params, cameras, size, *, lights, prepared):
        seen.append((cameras, lights))
        pixels = np.full((len(cameras.focal), size, size, 3), 0.5, np.float32)
        return types.SimpleNamespace(rgb=pixels, albedo=pixels, opacity=pixels[..., 0])

    monkeypatch.setattr(renders, "render_views", render_views)
    monkeypatch.setattr(renders, "prepare_views", lambda scene, params, step: None)
    look = renders.ViewConfig(distance=1.5, focal=1.1, ambient=0.1, diffuse=0.9)
    found = renders.scene_renders(truth_scene, params, look, 4, albedo=True)
    assert [*found] == ["color", "albedo", "geo"] and len(seen) == 2
    for cameras, _ in seen:
        np.testing.assert_allclose(np.degrees(cameras.elevation), 30, rtol=1e-5)
        np.testing.assert_allclose(np.degrees(cameras.azimuth), 45 * np.arange(8), atol=1e-3)
    assert [float(lights.textureless.mean()) for _, lights in seen] == [0, 1]
