"""Lambertian shading with a point light (paper Eq. 7)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamfusion_jax.types import FieldOutput, Light


def shade(
    field: FieldOutput, points: Float[Array, "*batch 3"], light: Light
) -> Float[Array, "*batch channels"]:
    """c = rho (diffuse max(0, n . l) + ambient), l the unit vector towards the light.

    A fourth channel of the albedo has no color and is not lit; without texture it is 0.5.

    Args:
      field: density, albedo and normals at the points.
      points: where the field was queried.
      light: one light, or one for each entry of the leading dimensions of `points`.
        `textureless` 1 replaces the albedo by white.
    """
    # One value a light, next to the points' own dimensions.
    shape = light.diffuse.shape + (1,) * (points.ndim - light.diffuse.ndim)
    diffuse, ambient = light.diffuse.reshape(shape), light.ambient.reshape(shape)
    to_light = light.position.reshape(*shape[:-1], 3) - points
    to_light = to_light * jax.lax.rsqrt(jnp.sum(to_light**2, -1, keepdims=True) + 1e-10)
    normals = jnp.zeros_like(points) if field.normals is None else field.normals
    cosine = jnp.maximum(jnp.sum(normals * to_light, -1, keepdims=True), 0.0)
    color, rest = field.albedo[..., :3], field.albedo[..., 3:]
    textureless = light.textureless.reshape(shape)
    lit = (color + textureless * (1.0 - color)) * (diffuse * cosine + ambient)
    return jnp.concatenate([lit, rest + textureless * (0.5 - rest)], axis=-1)
