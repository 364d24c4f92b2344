"""Shampoo against golden trajectories of the reference, a NumPy version and optax's wrappers."""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dreamfusion_jax.optim import scale_by_shampoo, shampoo

GOLDEN = Path(__file__).parents[1] / "golden" / "shampoo_reference.npz"
SGD = {"block_size": 16, "beta1": 0.95, "beta2": 0.99, "exponent_override": 0, "graft_type": "sgd"}
ADAGRAD = {
    "beta2": 1.0,
    "exponent_override": 0,
    "graft_type": "adagrad",
    "nesterov": False,
    "start_preconditioning_step": 2,
}


def golden(case, kind):
    """The arrays of one case and kind, by parameter."""
    arrays = np.load(GOLDEN)
    names = [name for name in arrays.files if name.startswith(f"{case}/{kind}/")]
    return {name.split("/")[-1]: arrays[name] for name in names}


def golden_steps(case, learning_rate, settings):
    """For each step, by parameter: the updates, and the reference's."""
    optimizer = shampoo(learning_rate, **settings)
    params = golden(case, "init")
    state = jax.jit(optimizer.init)(params)
    update = jax.jit(optimizer.update)
    for t in itertools.count():
        if not (gradients := golden(case, f"grad{t}")):
            break
        got, state = update(gradients, state, params)
        yield got, golden(case, f"update{t}")


def distance(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)


@pytest.mark.parametrize(
    ("case", "learning_rate", "settings"),
    [
        ("paper", 1e-4, {}),
        ("merged_dims", 3e-3, {}),
        ("sgd_graft", 1e-2, SGD),
        ("adagrad_graft", 1e-2, ADAGRAD),
    ],
)
def test_golden_trajectory(case, learning_rate, settings):
    steps = list(golden_steps(case, learning_rate, settings))
    assert len(steps) >= 8
    for t, (got, want) in enumerate(steps):
        for name in want:
            assert distance(got[name], want[name]) <= 1e-4, (t, name)


def test_low_rank_gradients_are_preconditioned_as_exactly_as_by_the_reference():
    """Roots of nearly singular statistics depend on roundings: in f32 the reference, too, is
    0.2 % from exact arithmetic."""
    gradients = [golden("low_rank", f"grad{t}")["p0"] for t in range(8)]
    exact = -1e-4 * numpy_shampoo(np.stack(gradients), golden("low_rank", "init")["p0"])
    for t, (got, want) in enumerate(golden_steps("low_rank", 1e-4, {})):
        of_the_reference = max(distance(want["p0"], exact[t]), 1e-5)
        assert of_the_reference < 3e-3
        assert distance(got["p0"], exact[t]) <= 1.2 * of_the_reference, t
        assert distance(got["p0"], want["p0"]) <= 2 * of_the_reference, t  # both are off
    assert t == 7


def numpy_shampoo(
    gradients,
    params,
    *,
    block_size=128,
    beta1=0.9,
    beta2=0.9,
    matrix_epsilon=1e-6,
    exponent_override=2,
    graft="sqrt_n",
    start=5,
    every=1,
    nesterov=True,
    average=False,
    weight_decay=0.0,
):
    """All steps for merged shapes (tensors given are not to be merged), in float64.

    One tensor, eigendecompositions; the statistics are padded with the identity to the
    largest one.
    """
    cuts = [
        [slice(i, min(i + block_size, n)) for i in range(0, n, block_size)] for n in params.shape
    ]
    tiles = list(itertools.product(*cuts))
    largest = min(block_size, max(params.shape))
    statistics, roots, squares = {}, {}, np.zeros(params.shape)
    buffers = {"shampoo": np.zeros(params.shape), "graft": np.zeros(params.shape)}
    steps = []
    for k, gradient in enumerate(gradients.astype(np.float64)):
        direction = np.zeros(params.shape)
        for number, tile in enumerate(tiles):
            block = gradient[tile]
            for axis, n in enumerate(block.shape):
                rows = np.moveaxis(gradient[tile], axis, 0).reshape(n, -1)
                old = statistics.get((number, axis), matrix_epsilon * np.eye(n))
                weight = 1 if beta2 == 1 else 1 - beta2
                statistics[number, axis] = beta2 * old + weight * rows @ rows.T
                if k % every == 0:
                    values, basis = np.linalg.eigh(statistics[number, axis])
                    floor = 1.0 if n < largest else 1e-6
                    p = exponent_override or 2 * block.ndim
                    values = (values + matrix_epsilon * max(values[-1], floor)) ** (-1 / p)
                    roots[number, axis] = (basis * values) @ basis.T
                product = np.tensordot(roots[number, axis], block, axes=[[0], [axis]])
                block = np.moveaxis(product, 0, axis)
            direction[tile] = block
        scaled = gradient
        if graft.endswith("_normalized"):
            scaled = gradient / np.linalg.norm(gradient)
        decay = beta2 if graft.startswith("rmsprop") else 1
        squares = decay * squares + (1 if decay == 1 else 1 - decay) * scaled**2
        grafted = {"sqrt_n": np.sign(gradient), "sgd": gradient}.get(
            graft, scaled / (np.sqrt(squares) + 1e-10)
        )
        direction *= np.linalg.norm(grafted) / np.linalg.norm(direction)
        weight = 1 - beta1 if average else 1
        chosen = "shampoo" if k >= start else "graft"
        for name, u in (("shampoo", direction), ("graft", grafted)):
            u = u + weight_decay * params
            buffers[name] = beta1 * buffers[name] + weight * u
            if name == chosen:
                step = beta1 * buffers[name] + weight * u if nesterov else buffers[name]
        steps.append(step)
    return np.stack(steps)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "settings", "merged"),
    [
        ((20,), {"graft": "rmsprop", "start": 1}, None),
        ((20,), {"graft": "rmsprop_normalized", "nesterov": False, "start": 0}, None),
        ((70, 60), {"block_size": 32, "graft": "adagrad_normalized", "start": 2}, None),
        ((20,), {"average": True, "weight_decay": 0.1, "start": 2, "beta2": 1.0}, None),
        (
            (17, 16, 18),
            {
                "block_size": 16,
                "matrix_epsilon": 1e-4,
                "exponent_override": 0,
                "start": 1,
                "every": 3,
            },
            (272, 18),
        ),
    ],
)
def test_options_agree_with_numpy(shape, settings, merged):
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(5, *shape)).astype(np.float32)
    params = rng.normal(size=shape).astype(np.float32)
    names = {
        "graft": "graft_type",
        "start": "start_preconditioning_step",
        "every": "preconditioning_compute_steps",
        "average": "moving_average_for_momentum",
    }
    optimizer = scale_by_shampoo(**{names.get(k, k): v for k, v in settings.items()})

    @jax.jit
    def run(params, gradients):
        def body(state, gradient):
            step, state = optimizer.update(gradient, state, params)
            return state, step

        return jax.lax.scan(body, optimizer.init(params), gradients)[1]

    merged = merged or shape
    want = numpy_shampoo(gradients.reshape(5, *merged), params.reshape(merged), **settings)
    got = np.asarray(run(params, gradients)).reshape(want.shape)
    for t in range(5):
        assert np.linalg.norm(got[t] - want[t]) <= 2e-3 * np.linalg.norm(want[t]), t


def test_tensors_without_preconditioner_take_the_grafting_update():
    params = {"long": jnp.ones(5000), "scalar": jnp.ones(()), "none": jnp.ones((0, 3)), "sub": {}}
    gradients = jax.tree.map(lambda p: -2.0 * p, params)
    optimizer = shampoo(0.1, start_preconditioning_step=0, beta1=0.0)
    state = optimizer.init(params)
    assert [stack.shape for stack in state[0].statistics] == [(1, 1, 1)]  # the scalar's
    updates, _ = jax.jit(optimizer.update)(gradients, state)
    for update, param in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(update, 0.1 * np.ones(param.shape), rtol=1e-6)


def test_an_empty_tree_and_zero_gradients():
    optimizer = shampoo(1.0, start_preconditioning_step=0)
    assert optimizer.update({}, optimizer.init({}))[0] == {}
    zero = {"w": jnp.zeros(3)}
    updates, _ = jax.jit(optimizer.update)(zero, optimizer.init(zero))
    np.testing.assert_array_equal(updates["w"], np.zeros(3))


PARAMS = {"w": np.ones((3, 2), np.float32), "b": np.full(2, 0.5, np.float32)}


def trajectory(optimizer, params=PARAMS, steps=3):
    """The parameters after some steps on a quadratic, state carried through a scan."""

    def body(carry, _):
        params, state = carry
        gradients = jax.tree.map(lambda p: p + 0.1 * jnp.arange(p.size).reshape(p.shape), params)
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    carry = params, optimizer.init(params)
    (params, _), _ = jax.jit(lambda c: jax.lax.scan(body, c, None, length=steps))(carry)
    return jax.tree.map(np.asarray, params)


# With a large ridge the order of roundings does not show.
ROBUST = {"matrix_epsilon": 1e-2, "start_preconditioning_step": 1}


@pytest.mark.slow
def test_inject_hyperparams_traces_every_number():
    settings = ROBUST | {"exponent_override": 0, "weight_decay": 0.01, "block_size": 4}
    injected = optax.inject_hyperparams(shampoo)(lambda count: 0.1 / (1 + count), **settings)
    want = trajectory(shampoo(lambda count: 0.1 / (1 + count), **settings))
    for got, expected in zip(trajectory(injected).values(), want.values(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_chains_and_masks():
    chained = optax.chain(
        optax.clip_by_global_norm(1e6),
        optax.masked(scale_by_shampoo(**ROBUST), {"w": True, "b": False}),
        optax.scale_by_learning_rate(0.1),
    )
    got = trajectory(chained)
    want = trajectory(shampoo(0.1, **ROBUST), {"w": PARAMS["w"]})
    np.testing.assert_allclose(got["w"], want["w"], rtol=1e-4)
    np.testing.assert_allclose(got["b"], trajectory(optax.sgd(0.1))["b"], rtol=1e-5)


def test_scenes_under_vmap_equal_each_alone():
    optimizer = shampoo(0.1, start_preconditioning_step=0)
    gradients = {"w": np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)}

    def step(gradient):
        return optimizer.update(gradient, optimizer.init(gradient))[0]["w"]

    together = jax.jit(jax.vmap(step))(gradients)
    alone = jax.jit(step)
    for i in range(2):
        want = alone({"w": gradients["w"][i]})
        np.testing.assert_allclose(together[i], want, rtol=1e-5, atol=1e-6)


def test_low_precision_gradients_keep_their_type_and_the_state_stays_f32():
    optimizer = shampoo(0.1)
    params = {"w": jnp.ones((4, 3), jnp.bfloat16)}
    updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    assert updates["w"].dtype == jnp.bfloat16
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == {"int32", "float32"}


def test_the_state_can_be_donated():
    optimizer = shampoo(0.1, graft_type="adagrad")
    state = optimizer.init({"w": jnp.ones(3)})
    update = jax.jit(optimizer.update, donate_argnums=1)
    _, state = update({"w": jnp.ones(3)}, state)
    assert int(state[0].count) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"graft_type": "SQRT"}, "graft_type must be one of sgd, sqrt_n.*got 'SQRT'"),
        ({"block_size": 0}, "block_size must be at least 1; got 0"),
        ({"exponent_override": -2}, "exponent_override must be at least 0; got -2"),
        ({"preconditioning_compute_steps": 0}, "preconditioning_compute_steps.*got 0"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        shampoo(0.1, **settings)


def test_weight_decay_needs_the_parameters():
    optimizer = shampoo(0.1, weight_decay=0.5)
    with pytest.raises(ValueError, match="weight_decay=0.5 needs params"):
        optimizer.update({"w": jnp.ones(2)}, optimizer.init({"w": jnp.ones(2)}))


def test_block_size_cannot_be_traced_when_the_state_is_made():
    with pytest.raises(ValueError, match="block_size decides.*static_args='block_size'"):
        jax.eval_shape(optax.inject_hyperparams(shampoo)(0.1).init, PARAMS)
    jax.eval_shape(optax.inject_hyperparams(shampoo, "block_size")(0.1).init, PARAMS)
