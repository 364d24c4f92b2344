import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.scene.encoding import integrated_encoding
from dreamfusion_jax.scene.fields import Field, GridField, HashGridField, MlpField


class Ball(Field):
    """log tau falls linearly with the distance from a center; analytic normals point outwards."""

    center: tuple[float, float, float] = (0.1, -0.2, 0.3)

    @nn.compact
    def __call__(self, mean, variance, step):
        del variance
        distance = jnp.linalg.norm(mean - jnp.array(self.center), axis=-1)
        return 2.0 - 9.0 * distance, jnp.broadcast_to(0.5, mean.shape)


class Constant(Field):
    """A field that is flat; `value` of the log density."""

    value: float = 1000.0

    @nn.compact
    def __call__(self, mean, variance, step):
        scale = self.param("scale", nn.initializers.ones, ())
        return scale * jnp.full(mean.shape[:-1], self.value), jnp.broadcast_to(0.5, mean.shape)


def test_normals_of_an_analytic_field(points):
    out = jax.jit(lambda x: Ball().query(Ball().prepare({}, 0.0), x))(points)
    outwards = points - jnp.array(Ball.center)
    outwards /= jnp.linalg.norm(outwards, axis=-1, keepdims=True)
    np.testing.assert_allclose(out.normals, outwards, atol=1e-5)


@pytest.mark.slow
def test_normals_of_the_mlp_are_its_density_gradient_with_the_blob(points):
    field = MlpField(width=16, blocks=2, frequencies=3)
    params = jax.jit(field.init)(jax.random.key(0), points, 0.0, 0)
    step = 1e-2
    query = jax.jit(lambda x: field.density(field.prepare(params, 1e-4), x))

    def density(x):
        return np.asarray(query(x), np.float64)

    shifts = step * np.eye(3, dtype=np.float32)
    slope = [(density(points + s) - density(points - s)) / (2 * step) for s in shifts]
    expected = -np.stack(slope, -1)
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)

    def normals_of(field):
        return jax.jit(lambda x: field.query(field.prepare(params, 1e-4), x).normals)(points)

    normals = normals_of(field)
    assert np.sum(normals * expected, -1).min() > 0.999
    bare = normals_of(MlpField(width=16, blocks=2, frequencies=3, blob_scale=0.0))
    assert np.sum(normals * bare, -1).mean() < 0.9


@pytest.mark.slow
def test_the_blob_is_added_before_the_exp(points):
    params = jax.jit(MlpField(width=16, blocks=2, frequencies=3).init)(
        jax.random.key(0), points, 0.0, 0
    )

    def density(field):
        return jax.jit(lambda x: field.density(field.prepare(params, 0.0), x))(points)

    sizes = {"width": 16, "blocks": 2, "frequencies": 3}
    with_blob, without = (density(MlpField(blob_scale=scale, **sizes)) for scale in (5.0, 0.0))
    blob = 5.0 * np.exp(-np.sum(np.asarray(points) ** 2, -1) / (2 * 0.2**2))
    np.testing.assert_allclose(with_blob / without, np.exp(blob), rtol=1e-3)


@pytest.mark.parametrize(
    "kind",
    [
        functools.partial(MlpField, width=16, blocks=1, frequencies=3),
        functools.partial(GridField, cells=8, levels=2),
        functools.partial(HashGridField, levels=2, base_cells=4, cells=8, log2_table=8),
    ],
)
def test_the_blob_may_be_added_after_the_exp(points, kind):
    params = jax.jit(kind().init)(jax.random.key(0), points, 0.0, 0)

    def densities(**settings):
        field = kind(density_offset=-1.0, **settings)

        def both(x):
            prepared = field.prepare(params, 0.0)
            return field.density(prepared, x), field.query(prepared, x).density

        return np.array(jax.jit(both)(points))

    blob = 5.0 * np.exp(-np.sum(np.asarray(points) ** 2, -1) / (2 * 0.2**2))
    for after in (True, False):
        without = densities(blob_scale=0.0, blob_after_exp=after)
        expected = without + blob if after else without * np.exp(blob)
        np.testing.assert_allclose(densities(blob_after_exp=after), expected, rtol=1e-3)


def test_a_negative_blob_cannot_be_added_after_the_exp():
    with pytest.raises(ValueError, match="blob_scale is -1"):
        MlpField(blob_scale=-1.0, blob_after_exp=True)


def test_the_network_is_the_papers(points):
    """Residual blocks of two layers with swish, layer norm after each; exp and sigmoid."""
    field = MlpField(width=8, blocks=2, frequencies=3, blob_scale=0.0)
    params = jax.jit(field.init)(jax.random.key(0), points, 0.0, 0)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])

    def dense(name, x):
        return x @ p[name]["kernel"] + p[name]["bias"]

    def swish(x):
        return x / (1 + np.exp(-x))

    h = dense("stem", np.asarray(integrated_encoding(points, 1e-3, 3), np.float64))
    for i in range(2):
        h = h + dense(f"block{i}_out", swish(dense(f"block{i}_in", swish(h))))
        h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)
    heads = dense("heads", swish(h))
    out = jax.jit(lambda x: field.query(field.prepare(params, 1e-3), x, normals=False))(points)
    np.testing.assert_allclose(out.density, np.exp(heads[:, 0]), rtol=1e-4)
    np.testing.assert_allclose(out.albedo, 1 / (1 + np.exp(-heads[:, 1:])), rtol=1e-4)


def test_the_paper_sized_field_has_its_parts():
    params = jax.eval_shape(MlpField().init, jax.random.key(0), jnp.zeros((1, 3)), 0.0, 0)["params"]
    assert params["stem"]["kernel"].shape == (48, 128)
    assert sum(name.startswith("norm") for name in params) == 5
    assert params["heads"]["kernel"].shape == (128, 4)


@pytest.mark.parametrize("value", [1000.0, -1000.0])
def test_flat_and_saturated_fields_have_finite_gradients(points, value):
    field = Constant(value=value)
    params = field.init(jax.random.key(0), points, 0.0, 0)

    def loss(params, points):
        out = field.query(field.prepare(params, 0.0), points)
        return jnp.sum(out.density) + jnp.sum(out.normals) + jnp.sum(out.albedo)

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, points)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradients))
    assert np.all(field.query(field.prepare(params, 0.0), points).normals == 0)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [7, 64])
def test_chunks_change_nothing(scene, params, points, chunk):
    @functools.partial(jax.jit, static_argnums=1)
    @functools.partial(jax.grad, has_aux=True)
    def gradient(params, chunk):
        field = dataclasses.replace(scene.field, points_per_chunk=chunk)
        out = field.query(field.prepare(params, 1e-3), points.reshape(5, 10, 3))
        return jnp.sum(jnp.sin(out.density) + jnp.sum(out.normals * out.albedo, -1)), out

    whole, parts = (gradient(params["field"], size) for size in (0, chunk))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
