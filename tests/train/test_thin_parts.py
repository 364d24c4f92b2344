"""A table of synthetic pictures keeps its legs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.diffusion.empirical import Caption, EmpiricalPrior
from dreamfusion_jax.prompts.view_prompts import FINE_WORDS, fine_view_index
from dreamfusion_jax.scene.base import FINISHED
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.lights import albedo_light
from dreamfusion_jax.scene.nerf import NerfScene, prepare_with_grid, render_prepared
from dreamfusion_jax.scene.rays import cast_rays

SIZE = 32
LEG = 0.045
# (lower corner, upper corner): four legs, three pixels wide, and a top.
BOXES = [
    ((x - LEG, y - LEG, -0.3), (x + LEG, y + LEG, 0.14)) for x in (-0.2, 0.2) for y in (-0.2, 0.2)
] + [((-0.26, -0.26, 0.14), (0.26, 0.26, 0.22))]
BROWN, RED = (0.45, 0.3, 0.15), (0.8, 0.1, 0.1)


def cameras_around():
    azimuth, elevation = np.meshgrid(np.arange(24) * 2 * np.pi / 24, np.radians([5.0, 30.0]))
    return orbit_camera(jnp.array(azimuth.ravel()), jnp.array(elevation.ravel()), 1.5, 1.25)


def hit(rays, box):
    """Where the rays enter a box, infinite where they miss it (the slab method)."""
    with np.errstate(divide="ignore"):
        inverse = 1 / np.asarray(rays.directions)
    low, high = ((np.array(corner) - np.asarray(rays.origins)) * inverse for corner in box)
    near, far = np.minimum(low, high).max(-1), np.maximum(low, high).min(-1)
    return np.where(near < far, near, np.inf)


def images(cameras):
    """The table from each camera, legs red and top brown, with straight alpha."""
    rays = jax.vmap(lambda camera: cast_rays(camera, SIZE, 0.52))(cameras)
    distance = np.stack([hit(rays, box) for box in BOXES])
    color = np.array([RED] * 4 + [BROWN])[distance.argmin(0)]
    alpha = np.isfinite(distance.min(0))[..., None]
    return np.concatenate([color, alpha], -1).reshape(-1, SIZE, SIZE, 4).astype(np.float32)


@pytest.mark.slow
def test_a_table_has_its_legs(train_one, tmp_path):
    cameras = cameras_around()
    ground_truth = images(cameras)
    legs = ground_truth[..., 0] * ground_truth[..., 3] > 0.7
    assert 0.02 < legs.mean() < 0.15  # thin, and there

    seen_as = fine_view_index(cameras.azimuth, cameras.elevation)
    captions = [Caption("table", (), (FINE_WORDS[i],)) for i in seen_as]
    poses = jax.tree.map(np.asarray, cameras)
    prior = EmpiricalPrior.from_images(ground_truth, captions, poses=poses)
    config = load_config("quick")
    override(
        config,
        {
            "prompt.text": "a table",
            "scene.field.cells": 32,
            "scene.sampler.cells": 32,
            "scene.sampler.coarse_samples": 32,
            "light.ambient": 1.0,
            "light.diffuse": 0.0,
            "train.image_size": SIZE,
            "train.steps": 100,
            "stages.surface.begin": 1.0,  # a field to the end
        },
    )
    state = train_one(config, prior, tmp_path)

    scene = NerfScene.from_config(config.scene)
    ready = prepare_with_grid(scene, state.params, FINISHED, 32)
    rays = jax.vmap(lambda camera: cast_rays(camera, SIZE, scene.radius))(cameras)
    shape = (*rays.directions.shape[:-1], 3)
    lights = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (len(ground_truth), *x.shape)), albedo_light()
    )
    image = render_prepared(scene, ready, rays, lights, jnp.zeros(shape), None, normals=False)
    opacity = np.asarray(image.opacity).reshape(ground_truth.shape[:3])
    seen, there = opacity > 0.5, ground_truth[..., 3] > 0.5
    assert (seen & there).sum() / (seen | there).sum() > 0.9
    assert seen[legs].mean() > 0.9
    rgb = np.asarray(image.rgb).reshape(*ground_truth.shape[:3], 3)
    np.testing.assert_allclose(rgb[legs].mean(0), RED, atol=0.15)
