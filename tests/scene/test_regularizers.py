import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.config import load_config
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.scene.regularizers import (
    Transmittance,
    build_regularizers,
    entropy_penalty,
    opacity_penalty,
    orientation_penalty,
)
from dreamfusion_jax.schedules import Ramp
from dreamfusion_jax.types import RenderOutput

WEIGHTS = jnp.array([[0.5, 0.25]])
DIRECTION = jnp.array([[0.0, 0.0, 1.0]])


def test_orientation_counts_normals_that_face_away():
    normals = jnp.array([[[0.0, 0.6, 0.8], [0.0, 0.0, -1.0]]])
    penalty = orientation_penalty(WEIGHTS, normals, DIRECTION)
    np.testing.assert_allclose(penalty, [0.5 * 0.8**2], rtol=1e-5)


def test_orientation_moves_normals_not_weights():
    normals = jnp.array([[[0.0, 0.6, 0.8], [0.0, 0.0, 1.0]]])

    def total(weights, normals):
        return jnp.sum(orientation_penalty(weights, normals, DIRECTION))

    by_weight, by_normal = jax.grad(total, argnums=(0, 1))(WEIGHTS, normals)
    assert np.all(by_weight == 0) and np.any(by_normal != 0)


def test_opacity_penalty_of_the_paper():
    opacity = jnp.array([0.0, 0.3, 1.0])
    np.testing.assert_allclose(
        opacity_penalty(opacity), np.sqrt(np.square([0.0, 0.3, 1.0]) + 0.01), rtol=1e-6
    )


def test_entropy_drives_opacity_to_its_ends():
    slope = jax.vmap(jax.grad(lambda o: entropy_penalty(o)))
    low, high = slope(jnp.array([0.02, 0.4])), slope(jnp.array([0.6, 0.98]))
    assert np.all(low > 0) and np.all(high < 0)
    assert low[0] > low[1]
    assert entropy_penalty(jnp.array(0.5)) == pytest.approx(np.log(2), rel=1e-5)
    assert np.all(np.isfinite(slope(jnp.array([0.0, 1.0, 1.0 + 1e-6]))))


def test_a_ramp_is_linear_then_held():
    ramp = Ramp(1.0, 3.0, 10)
    values = [float(ramp(jnp.array(step))) for step in (0, 5, 10, 1000)]
    assert values == pytest.approx([1.0, 2.0, 3.0, 3.0])
    assert float(Ramp(1.0, 3.0, 0)(jnp.array(1))) == 3.0


def loss(term, step, opacity):
    """The weighted term of views of which the opacity alone counts."""
    one = jnp.zeros((*opacity.shape, 3))
    views = RenderOutput(one, one, opacity, opacity, one, opacity)
    return term(step) * term.of(views, jnp.int32(step))


def test_transmittance_has_a_target_that_rises():
    term = Transmittance(start=0.5, end=0.5)  # Dream Fields' target
    empty = jnp.zeros((3, 2, 2))
    # The target opacity goes from 0.6 to 0.12 exponentially.
    for step, target in ((0, 0.4), (250, 1 - np.sqrt(0.6 * 0.12)), (500, 0.88), (900, 0.88)):
        np.testing.assert_allclose(loss(term, step, empty), -0.5 * target, rtol=1e-5)
    slope = jax.grad(lambda opacity: loss(term, 900, opacity))
    views = jnp.stack(
        [jnp.full((2, 2), 0.5), jnp.full((2, 2), 0.05)]
    )  # the second is sparse enough
    np.testing.assert_allclose(slope(views)[0], np.full((2, 2), 0.5 / 8))
    np.testing.assert_array_equal(slope(views)[1], np.zeros((2, 2)))


def test_only_terms_with_weight_are_computed():
    config = load_config("paper").regularizers
    assert [name for name, _ in build_regularizers(config)] == ["orientation", "opacity"]
    config = config.copy_and_resolve_references().unlock()
    config.entropy.end = 0.1
    assert [name for name, _ in build_regularizers(config)][2:] == ["entropy"]
    config.transmittance.update({"end": 1.0, "target_end": 1.0})
    with pytest.raises(UserError, match="target_end is 1.0"):
        build_regularizers(config)
    with pytest.raises(UserError, match="no regularizer 'smoothness'"):
        build_regularizers({"smoothness": {"end": 1.0}})
