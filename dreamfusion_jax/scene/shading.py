"""Lambertian shading with a point light (paper Eq. 4)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamfusion_jax.types import FieldOutput, Light


def shade(
    field: FieldOutput, points: Float[Array, "*batch 3"], light: Light
) -> Float[Array, "*batch 3"]:
    """c = rho (diffuse max(0, n . l) + ambient), l the unit vector towards the light.

    Args:
      field: density, albedo and normals at the points.
      points: where the field was queried.
      light: one light for all points (no batch dimension). `textureless` 1 replaces
        the albedo by white.
    """
    to_light = light.position - points
    to_light = to_light * jax.lax.rsqrt(jnp.sum(to_light**2, -1, keepdims=True) + 1e-10)
    cosine = jnp.maximum(jnp.sum(field.normals * to_light, -1, keepdims=True), 0.0)
    albedo = field.albedo + light.textureless * (1.0 - field.albedo)
    return albedo * (light.diffuse * cosine + light.ambient)
