"""Grafting: a first-order update that lends Shampoo the size of its step."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamfusion_jax.optim.inverse_root import Scalar

GRAFT_TYPES = (
    "sgd",
    "sqrt_n",
    "adagrad",
    "adagrad_normalized",
    "rmsprop",
    "rmsprop_normalized",
)
TINY = 1e-16  # keeps quotients of norms finite


def check_graft_type(graft_type: str) -> None:
    """Raise ValueError for a name that is not in GRAFT_TYPES."""
    if graft_type not in GRAFT_TYPES:
        raise ValueError(f"graft_type must be one of {', '.join(GRAFT_TYPES)}; got {graft_type!r}.")


def has_diagonal(graft_type: str) -> bool:
    """Return whether this type accumulates squared gradients."""
    return graft_type not in ("sgd", "sqrt_n")


def decayed_sum(
    total: Float[Array, "*shape"], new: Float[Array, "*shape"], decay: Scalar
) -> Float[Array, "*shape"]:
    """decay total + (1 - decay) new, or the plain sum where decay is 1."""
    weight = jnp.where(decay == 1, 1.0, 1.0 - decay)
    return jnp.asarray(decay * total + weight * new).astype(total.dtype)


def accumulate(
    graft_type: str,
    gradient: Float[Array, "*shape"],
    diagonal: Float[Array, "*shape"],
    beta2: Scalar,
) -> Float[Array, "*shape"]:
    """Return the squared gradients so far: summed up for adagrad, averaged by beta2 for rmsprop."""
    decay = beta2 if graft_type.startswith("rmsprop") else 1.0
    return decayed_sum(diagonal, _normalized(graft_type, gradient) ** 2, decay)


def graft(
    graft_type: str,
    gradient: Float[Array, "*shape"],
    diagonal: Float[Array, "*shape"] | None = None,
    diagonal_epsilon: Scalar = 0.0,
) -> Float[Array, "*shape"]:
    """Return the grafting update of one tensor; `diagonal` already holds this gradient."""
    if graft_type == "sgd":
        return gradient
    if graft_type == "sqrt_n":
        return jnp.sign(gradient)
    assert diagonal is not None  # as the other types have one
    return _normalized(graft_type, gradient) / (jnp.sqrt(diagonal) + diagonal_epsilon)


def _normalized(graft_type: str, gradient: jax.Array) -> jax.Array:
    if graft_type.endswith("_normalized"):
        return gradient / (norm(gradient) + TINY)
    return gradient


def rescale(
    update: Float[Array, "*shape"], target: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """`update` with the norm of `target`, over the whole tensor."""
    return update * (norm(target) / (norm(update) + TINY))


def norm(tensor: jax.Array) -> Float[Array, ""]:
    """Return the Frobenius norm of a tensor of any rank, also of none."""
    return jnp.linalg.norm(tensor.ravel())
