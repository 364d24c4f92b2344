"""Distributed Shampoo (Anil et al., arXiv 2002.09018) as an optax transformation."""

import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dreamfusion_jax.optim import grafting, preconditioning
from dreamfusion_jax.optim.blocks import from_blocks, make_layout, to_blocks
from dreamfusion_jax.optim.inverse_root import Scalar


class ScaleByShampooState(NamedTuple):
    """State of scale_by_shampoo."""

    count: jax.Array  # type: ignore[assignment]  # int32; tuples have a method of that name
    statistics: preconditioning.Stacks  # L_a, one f32[k, n, n] for each statistic size n
    preconditioners: preconditioning.Stacks  # P_a, of the same shapes
    diagonal: optax.Updates  # squared gradients of the grafting, f32 like the params, or ()
    graft_momentum: optax.Updates  # f32, shapes of the params
    momentum: optax.Updates  # f32, shapes of the params


def scale_by_shampoo(
    *,
    block_size: Scalar = 128,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.9,
    matrix_epsilon: Scalar = 1e-6,
    diagonal_epsilon: Scalar = 1e-10,
    exponent_override: Scalar = 2,
    graft_type: str = "sqrt_n",
    start_preconditioning_step: Scalar = 5,
    preconditioning_compute_steps: Scalar = 1,
    nesterov: bool = True,
    moving_average_for_momentum: bool = False,
    weight_decay: Scalar = 0.0,
    batch_axis_name: str | None = None,
) -> optax.GradientTransformation:
    """Precondition each tensor with the inverse roots of its gradients' covariances.

    Args:
      block_size: larger dims are cut into blocks of this size.
      beta1: decay of both momentum buffers.
      beta2: decay of the statistics; 1 sums them up.
      matrix_epsilon: ridge of the statistics, relative to their largest eigenvalue, and
        the scale of their first value.
      diagonal_epsilon: added to the root of the grafting's accumulator.
      exponent_override: p of the root L^(-1/p); 0 means twice the rank of the block.
      graft_type: whose norm the update of a tensor takes, one of grafting.GRAFT_TYPES.
      start_preconditioning_step: the grafting update itself is taken before this step.
      preconditioning_compute_steps: roots are renewed every so many steps.
      nesterov: step along beta1 m + u instead of m.
      moving_average_for_momentum: m <- beta1 m + (1 - beta1) u instead of beta1 m + u.
      weight_decay: times the parameter, added to u before momentum.
      batch_axis_name: mapped axis (pmap, shard_map) over which the roots are spread.

    Returns:
      An optax.GradientTransformation. Its update is the step before the learning rate,
      still to be multiplied by -learning_rate.

    Raises:
      ValueError: for an unknown graft_type or a number out of range.
    """
    grafting.check_graft_type(graft_type)
    _check_at_least("block_size", block_size, 1)
    _check_at_least("exponent_override", exponent_override, 0)
    _check_at_least("preconditioning_compute_steps", preconditioning_compute_steps, 1)

    def init_fn(params):
        shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
        layout = make_layout(shapes, _concrete("block_size", block_size))

        def zeros():  # new ones for each use, as a buffer can be donated only once
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), params)

        return ScaleByShampooState(
            count=jnp.zeros([], jnp.int32),
            statistics=preconditioning.identity_stacks(layout, matrix_epsilon),
            preconditioners=preconditioning.identity_stacks(layout, 1.0),
            diagonal=zeros() if grafting.has_diagonal(graft_type) else (),
            graft_momentum=zeros(),
            momentum=zeros(),
        )

    def renew(layout, statistics, state):
        def compute():
            return preconditioning.compute_roots(
                layout,
                statistics,
                state.preconditioners,
                exponent_override=exponent_override,
                epsilon=matrix_epsilon,
                axis_name=batch_axis_name,
            )

        if isinstance(preconditioning_compute_steps, int) and preconditioning_compute_steps == 1:
            return compute()
        due = state.count % preconditioning_compute_steps == 0
        return jax.lax.cond(due, compute, lambda: state.preconditioners)

    def graft(gradients, diagonal):
        if not grafting.has_diagonal(graft_type):
            return [grafting.graft(graft_type, g) for g in gradients], diagonal
        totals = [
            grafting.accumulate(graft_type, g, total, beta2)
            for g, total in zip(gradients, jax.tree.leaves(diagonal), strict=True)
        ]
        pairs = zip(gradients, totals, strict=True)
        steps = [grafting.graft(graft_type, g, d, diagonal_epsilon) for g, d in pairs]
        return steps, jax.tree.unflatten(jax.tree.structure(diagonal), totals)

    def decay(steps, params):
        if isinstance(weight_decay, int | float) and weight_decay == 0:
            return steps
        if params is None:
            raise ValueError(f"weight_decay={weight_decay} needs params: call update with them.")
        return [u + weight_decay * p for u, p in zip(steps, jax.tree.leaves(params), strict=True)]

    def momentum(buffers, steps):
        """Return new buffers and the steps to take along them."""
        weight = 1.0 - beta1 if moving_average_for_momentum else 1.0
        pairs = list(zip(jax.tree.leaves(buffers), steps, strict=True))
        new = [(beta1 * m + weight * u).astype(jnp.float32) for m, u in pairs]
        taken = [beta1 * m + weight * u for m, u in zip(new, steps, strict=True)]
        return new, taken if nesterov else new

    def update_fn(updates, state, params=None):
        leaves, treedef = jax.tree.flatten(updates)
        gradients = [leaf.astype(jnp.float32) for leaf in leaves]
        # Read off the state, so that inject_hyperparams may trace every number.
        layout = make_layout([g.shape for g in gradients], _block_size_of(state))

        gradient_blocks = to_blocks(layout, gradients)
        statistics = preconditioning.accumulate(layout, state.statistics, gradient_blocks, beta2)
        preconditioners = renew(layout, statistics, state)
        preconditioned = preconditioning.precondition(layout, preconditioners, gradient_blocks)

        grafts, diagonal = graft(gradients, state.diagonal)
        directions = from_blocks(layout, preconditioned, grafts)
        steps = [grafting.rescale(*pair) for pair in zip(directions, grafts, strict=True)]

        new_momentum, steps = momentum(state.momentum, decay(steps, params))
        new_graft_momentum, grafts = momentum(state.graft_momentum, decay(grafts, params))
        started = state.count >= start_preconditioning_step
        chosen = [
            jnp.where(started, step, graft).astype(leaf.dtype)
            for step, graft, leaf in zip(steps, grafts, leaves, strict=True)
        ]
        return treedef.unflatten(chosen), ScaleByShampooState(
            count=optax.safe_increment(state.count),
            statistics=statistics,
            preconditioners=preconditioners,
            diagonal=diagonal,
            graft_momentum=treedef.unflatten(new_graft_momentum),
            momentum=treedef.unflatten(new_momentum),
        )

    return optax.GradientTransformation(init_fn, update_fn)


def shampoo(
    learning_rate: optax.ScalarOrSchedule,
    *,
    block_size: Scalar = 128,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.9,
    matrix_epsilon: Scalar = 1e-6,
    diagonal_epsilon: Scalar = 1e-10,
    exponent_override: Scalar = 2,
    graft_type: str = "sqrt_n",
    start_preconditioning_step: Scalar = 5,
    preconditioning_compute_steps: Scalar = 1,
    nesterov: bool = True,
    moving_average_for_momentum: bool = False,
    weight_decay: Scalar = 0.0,
    batch_axis_name: str | None = None,
) -> optax.GradientTransformation:
    """Return Distributed Shampoo with the DreamFusion paper's settings as defaults.

    Args:
      learning_rate: a number or a schedule; multiplies last, also the weight decay.
      block_size: see scale_by_shampoo, as for all other arguments.

    Returns:
      An optax.GradientTransformation whose update is to be added to the parameters.
    """
    return optax.chain(
        scale_by_shampoo(
            block_size=block_size,
            beta1=beta1,
            beta2=beta2,
            matrix_epsilon=matrix_epsilon,
            diagonal_epsilon=diagonal_epsilon,
            exponent_override=exponent_override,
            graft_type=graft_type,
            start_preconditioning_step=start_preconditioning_step,
            preconditioning_compute_steps=preconditioning_compute_steps,
            nesterov=nesterov,
            moving_average_for_momentum=moving_average_for_momentum,
            weight_decay=weight_decay,
            batch_axis_name=batch_axis_name,
        ),
        optax.scale_by_learning_rate(learning_rate),
    )


def _check_at_least(name: str, value: Scalar, least: int) -> None:
    if isinstance(value, int | float) and value < least:
        raise ValueError(f"{name} must be at least {least}; got {value}.")


def _concrete(name: str, value: Scalar) -> int:
    """Return a number that decides about shapes."""
    if isinstance(value, jax.core.Tracer):
        raise ValueError(
            f"{name} decides about shapes and cannot be traced; got {value}. "
            f"If inject_hyperparams does so, give it static_args={name!r}."
        )
    whole: Any = value
    return operator.index(whole)


def _block_size_of(state: ScaleByShampooState) -> int:
    """Return a block size with the layout that `state` was made with.

    The largest statistic is a whole block where any dim was cut; where none was, any size
    from the largest dim on gives the same layout.
    """
    return max((stack.shape[-1] for stack in state.statistics), default=1)
