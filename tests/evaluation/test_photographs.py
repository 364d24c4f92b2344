"""Pictures of textured triangles, against what can be said of them without a renderer."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.evaluation.photographs import Look, photograph
from dreamfusion_jax.evaluation.textured_mesh import Object3D, Part
from dreamfusion_jax.scene.cameras import orbit_camera

ALBEDO = Look(1.0, 0.0)
FRONT = orbit_camera(jnp.array([0.0]), 0.0, 2.0, 2.0)  # sees [-0.5, 0.5] of the plane x = 0


def square(texture=None, color=(1.0, 1.0, 1.0), half=0.25, x=0.0, repeat=1.0):
    """A square that faces the camera of FRONT."""
    corners = [(x, -half, -half), (x, half, -half), (x, half, half), (x, -half, half)]
    return Part(
        vertices=np.array(corners, np.float32),
        faces=np.array([(0, 1, 2), (0, 2, 3)]),
        normals=np.tile(np.array([1, 0, 0], np.float32), (4, 1)),
        uv=None if texture is None else repeat * np.array([(0, 0), (1, 0), (1, 1), (0, 1)], "f4"),
        texture=texture,
        color=color,
    )


def shown(*parts, camera=FRONT, look=ALBEDO, size=32, light=(9.0, 0.0, 0.0), **how):
    return photograph(Object3D(parts), camera, np.array([light]), size, (look,), **how)[0, 0]


def test_covers_what_it_covers():
    picture = shown(square(half=0.25 + 1 / 64, color=(1.0, 0.5, 0.0)))
    expected = np.zeros((32, 32))
    expected[8:24, 8:24] = 255
    edge = np.zeros((32, 32), bool)
    edge[7:25, 7:25] = True
    edge &= expected == 0
    corners = np.zeros_like(edge)
    corners[np.ix_([7, 24], [7, 24])] = True
    expected[edge] = 255 / 2  # half a pixel
    expected[corners] = 255 / 4
    np.testing.assert_allclose(picture[..., 3], expected, atol=1)
    assert (picture[picture[..., 3] > 0][:, :3] == (255, 128, 0)).all()


def test_texture_stands_upright_and_repeats():
    texture = np.zeros((2, 2, 3), np.uint8)
    texture[0, 0], texture[0, 1] = (255, 0, 0), (0, 255, 0)
    texture[1, 0], texture[1, 1] = (0, 0, 255), (255, 255, 255)
    picture = shown(square(texture, half=0.5))  # right is +y, as u is
    quarters = picture[np.ix_([8, 24], [8, 24])][..., :3].reshape(4, 3)  # centers of texels
    for found, value in zip(quarters, texture.reshape(4, 3), strict=True):
        np.testing.assert_allclose(found, value, atol=20)
    twice = shown(square(texture, half=0.5, repeat=2.0))
    np.testing.assert_allclose(twice[:16, :16], twice[16:, 16:], atol=1)


def test_fine_patterns_are_their_mean_from_afar():
    checks = np.indices((256, 256)).sum(0) % 2 * 255
    texture = np.repeat(checks[..., None], 3, -1).astype(np.uint8)
    picture = shown(square(texture, half=0.5), size=16, supersampling=1)
    np.testing.assert_allclose(picture[..., :3], 127.5, atol=1)


def test_light_falls_on_both_sides_and_nearer_parts_hide_others():
    look = Look(0.2, 0.8)
    front, behind = square(color=(0.5, 0.5, 0.5)), orbit_camera(jnp.array([np.pi]), 0.0, 2.0, 2.0)
    lit = shown(front, look=look)[16, 16, 0]
    assert lit == pytest.approx(255 * 0.5, abs=1)
    assert shown(front, look=look, camera=behind, light=(-9.0, 0.0, 0.0))[16, 16, 0] == lit
    aside = shown(front, look=look, light=(0.0, 900.0, 0.0))[16, 16, 0]
    assert aside == pytest.approx(255 * 0.1, abs=1)
    red = square(color=(1.0, 0.0, 0.0), x=0.1)
    for parts in ((front, red), (red, front)):
        assert tuple(shown(*parts)[16, 16]) == (255, 0, 0, 255)


def test_looks_share_their_outlines():
    texture = np.full((4, 4, 3), 90, np.uint8)
    obj, light = Object3D((square(texture),)), np.array([(9.0, 0.0, 0.0)])
    looks = (ALBEDO, Look(0.1, 0.9, textureless=True))
    plain, white = photograph(obj, FRONT, light, 32, looks)[:, 0]
    np.testing.assert_array_equal(plain[..., 3], white[..., 3])
    assert plain[16, 16, 0] == 90 and white[16, 16, 0] >= 254


def test_views_of_one_call_are_those_of_several():
    obj = Object3D((dataclasses.replace(square(), color=(0.2, 0.4, 0.6)),))
    azimuth = jnp.linspace(0.0, 1.0, 3)
    cameras, lights = orbit_camera(azimuth, 0.1, 2.0, 2.0), np.tile([(9.0, 0.0, 0.0)], (3, 1))
    together = photograph(obj, cameras, lights, 512)  # one view in a call
    for i in range(3):
        one = orbit_camera(azimuth[i : i + 1], 0.1, 2.0, 2.0)
        np.testing.assert_array_equal(photograph(obj, one, lights[:1], 512)[0, 0], together[0, i])
