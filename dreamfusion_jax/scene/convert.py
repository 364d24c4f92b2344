"""From the parameters of one scene to those of another: between the stages of a run."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from dreamfusion_jax.registry import check_within, register
from dreamfusion_jax.scene.base import Scene, Step


class Convert(abc.ABC):
    """Make the first parameters of a stage's scene, of the last ones of the stage before.

    A class of its own is registered with `@register("convert", NAME)`.
    """

    @abc.abstractmethod
    def __call__(self, old: Scene, params: Any, new: Scene, step: Step, key: Key[Array, ""]) -> Any:
        """Return parameters of the new scene.

        Args:
          old: the scene before.
          params: its parameters.
          new: the scene that goes on.
          step: at which.
          key: draws what is random.
        """


@register("convert", "fit")
@dataclasses.dataclass(frozen=True)
class Fit(Convert):
    """Fit density and color to the old scene's at random points of its sphere, with Adam.

    The loss is the squared difference of log(1 + density), and that of the color where the old
    scene is dense. What else both scenes have in the same shape, as a background, is taken over.
    """

    steps: int = 500
    points: int = 8192
    learning_rate: float = 2e-2

    def __post_init__(self):
        check_within(self, steps=(1, 10**6), points=(1, 2**24), learning_rate=(1e-8, 10))

    def __call__(self, old: Scene, params: Any, new: Scene, step: Step, key: Key[Array, ""]) -> Any:
        """Return parameters of the new scene that look like those of the old one."""
        init_key, points_key = jax.random.split(key)
        start = taken_over(params, new.init(init_key))
        return self.fitted(old, params, new, start, step, points_key)

    def fitted(
        self, old: Scene, params: Any, new: Scene, start: Any, step: Step, key: Key[Array, ""]
    ) -> Any:
        """Return parameters of the new scene, of those where the fit begins."""
        optimizer = optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.steps))

        def loss(params, points, wanted):
            found = new.at_points(params, points, step)
            density = (jnp.log1p(found.density) - jnp.log1p(wanted.density)) ** 2
            color = jnp.sum((found.albedo - wanted.albedo) ** 2, -1)
            opacity = 1 - jnp.exp(-wanted.density * (old.radius / 16))
            return jnp.mean(density + opacity * color)

        def body(carry, i):
            own, opt_state = carry
            points = _in_ball(jax.random.fold_in(key, i), self.points, old.radius)
            wanted = old.at_points(params, points, step)
            updates, opt_state = optimizer.update(jax.grad(loss)(own, points, wanted), opt_state)
            return (optax.apply_updates(own, updates), opt_state), None

        (fitted, _), _ = jax.lax.scan(body, (start, optimizer.init(start)), jnp.arange(self.steps))
        return fitted


def taken_over(old: Any, fresh: Any) -> Any:
    """Return fresh parameters, at the top level the old ones wherever they have the same shapes."""
    if not (isinstance(old, dict) and isinstance(fresh, dict)):
        return fresh
    olds, news = shapes(old), shapes(fresh)
    return {k: old[k] if olds.get(k) == news[k] else v for k, v in fresh.items()}


def shapes(tree: Any) -> Any:
    """Return the shapes of a tree's arrays."""
    return jax.tree.map(jnp.shape, tree)


def _in_ball(key: Key[Array, ""], count: int, radius: float) -> Float[Array, "points 3"]:
    """Return points that are uniform in a ball."""
    direction_key, distance_key = jax.random.split(key)
    direction = jax.random.normal(direction_key, (count, 3))
    direction /= jnp.linalg.norm(direction, axis=-1, keepdims=True)
    return direction * radius * jax.random.uniform(distance_key, (count, 1)) ** (1 / 3)
