import numpy as np
import pytest

pytest.importorskip("pyvista")

from dreamfusion_jax.evaluation.mesh_renderer import Renderer, look_at_origin  # noqa: E402
from dreamfusion_jax.evaluation.textured_mesh import Object3D, Part  # noqa: E402

pytestmark = pytest.mark.slow
SIZE = 64


@pytest.fixture(scope="module")
def renderer():
    made = Renderer(SIZE)
    yield made
    made.close()


def cube(center, edge, color, texture=None, uv=None) -> Part:
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = [f for a, b, c, d in quads for f in ((a, b, c), (a, c, d))]
    vertices = (np.asarray(center) + edge * (corners - 0.5)).astype(np.float32)
    normals = (2 * corners - 1) / np.sqrt(3)
    return Part(vertices, np.array(faces), normals.astype(np.float32), uv, texture, color)


def project(points, position, rotation, focal):
    """The pinhole of the docstring, in pixels from the top left corner."""
    local = (points - position) @ rotation
    x, y = (focal * local[:, i] / -local[:, 2] for i in (0, 1))
    return SIZE * np.stack([0.5 + x, 0.5 - y], -1)


@pytest.mark.parametrize("focal", [0.7, 1.25])
def test_camera_is_the_pinhole(renderer, focal):
    rng = np.random.default_rng(0)
    for _ in range(4):
        center = rng.uniform(-0.25, 0.25, 3)
        renderer.show(Object3D((cube(center, 0.06, (1.0, 1.0, 1.0)),)))
        azimuth, elevation = rng.uniform(0, 6.28), rng.uniform(-0.2, 1.5)
        position, rotation = look_at_origin(azimuth, elevation, 1.3)
        position = position + rng.uniform(-0.1, 0.1, 3)
        alpha = renderer.render(position, rotation, focal)[..., 3].astype(float)
        rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
        seen = np.array([(columns * alpha).sum(), (rows * alpha).sum()]) / alpha.sum()
        expected = project(center[None], position, rotation, focal)[0]
        np.testing.assert_allclose(seen, expected, atol=0.15)


def test_look_at_origin_agrees_with_the_scene():
    import jax.numpy as jnp

    from dreamfusion_jax.scene.cameras import orbit_camera

    for azimuth, elevation in ((0.0, 0.0), (1.0, 0.5), (4.0, 1.5), (2.0, -0.2)):
        position, rotation = look_at_origin(azimuth, elevation, 1.5)
        camera = orbit_camera(jnp.float32(azimuth), elevation, 1.5, 1.25)
        np.testing.assert_allclose(camera.position, position, atol=1e-5)
        np.testing.assert_allclose(camera.rotation, rotation, atol=1e-5)


def test_every_view_is_drawn_anew_and_alpha_is_straight(renderer):
    red, blue = (
        cube((s * 0.2, 0, 0), 0.3, c) for s, c in ((1, (1.0, 0.0, 0.0)), (-1, (0.0, 0.0, 1.0)))
    )
    renderer.show(Object3D((red, blue)))
    shots = [
        renderer.render(*look_at_origin(a, 0.1, 1.5), 1.25, ambient=1.0, diffuse=0.0)
        for a in (0.0, np.pi, 0.0)
    ]
    np.testing.assert_array_equal(shots[0], shots[2])
    middle = SIZE // 2
    np.testing.assert_array_equal(shots[0][middle, middle], (255, 0, 0, 255))
    np.testing.assert_array_equal(shots[1][middle, middle], (0, 0, 255, 255))
    alpha = shots[0][..., 3]
    assert alpha[0, 0] == 0
    edge = (alpha > 0) & (alpha < 255)
    assert edge.sum() > 10  # anti-aliased
    assert shots[0][edge][:, :3].sum(-1).min() >= 250  # full color also where alpha is small


def test_texture_and_cut_out(renderer):
    texture = np.zeros((8, 8, 4), np.uint8)
    texture[:4] = (0, 255, 0, 255)  # the upper half; the lower one is cut out
    uv = np.array([[y, z] for _ in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
    renderer.show(Object3D((cube((0, 0, 0), 0.5, (1.0, 1.0, 1.0), texture, uv),)))
    shot = renderer.render(*look_at_origin(0.0, 0.0, 1.5), 1.25, ambient=1.0, diffuse=0.0)
    np.testing.assert_allclose(shot[24, 32], (0, 255, 0, 255), atol=2)
    assert shot[40, 32, 3] == 0


def test_diffuse_light_comes_from_its_place(renderer):
    renderer.show(Object3D((cube((0, 0, 0), 0.5, (1.0, 1.0, 1.0)),)))
    view = look_at_origin(0.0, 0.0, 1.5)
    bright, dark = (
        renderer.render(*view, 1.25, light=np.array([0, y, 0.0]), ambient=0.2, diffuse=0.8)
        for y in (3.0, -3.0)
    )
    # Normals point to the corners: the right half (+y) looks to a light at +y.
    assert bright[32, 40, 0] > dark[32, 40, 0] + 50
    assert dark[32, 24, 0] > bright[32, 24, 0] + 50
