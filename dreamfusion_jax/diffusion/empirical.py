"""The closed-form optimal denoiser of a finite set of captioned pictures.

For pictures x_1 ... x_n that match a text y, the best possible denoiser is known:
E[x | z_t, y] = sum_i softmax_i(-|z_t - alpha_t x_i|^2 / (2 sigma_t^2)) x_i. Here each
picture is an object cut out of its background, x_i = F_i + V_i b, with F_i the
foreground (premultiplied by its opacity), V_i = 1 - opacity, and b a flat background
color that is unknown: b ~ N(0, s^2 I) in [-1, 1] units. The background is
marginalized exactly, as everything is Gaussian given the picture.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dreamfusion_jax.diffusion.noise_schedules import CosineSchedule, Schedule
from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.prompts.word_vectors import TEMPLATE_WORDS, contains_phrase, singular, words_of
from dreamfusion_jax.types import Camera, Conditioning

# Accelerators round the factors of products to 8 bits or so: a few per mille of logits that are
# divided by sigma^2 would make another picture win.
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


@dataclasses.dataclass(frozen=True)
class Caption:
    """What is said of a picture: its noun, other names of it, and words for its view.

    A picture with a `look` is meant only where the prompt has that, and then no other one is.
    """

    noun: str
    synonyms: tuple[str, ...]
    views: tuple[str, ...]
    look: str = ""


@dataclasses.dataclass(frozen=True)
class EmpiricalPrior(Prior):
    """A `Prior` without training: the posterior mean over captioned cut-out pictures.

    A text matches a picture if it names its noun (or a synonym) and, where it has a
    view word, that view. The empty prompt matches every picture. `params` holds the
    pictures; a row of `Conditioning.states` [1, n] marks those that match.
    """

    params: dict[str, Any] | None = dataclasses.field(compare=False, repr=False)
    captions: tuple[Caption, ...] = dataclasses.field(compare=False, repr=False)
    image_shape: tuple[int, int, int]
    schedule: Schedule = CosineSchedule()
    background_std: float = 0.6
    poses: Camera | None = dataclasses.field(default=None, compare=False)  # of the pictures

    @classmethod
    def from_images(
        cls,
        rgba: Float[np.ndarray, "n height width 4"],
        captions: Sequence[Caption],
        **kwargs,
    ) -> "EmpiricalPrior":
        """Build the prior from straight-alpha pictures in [0, 1]."""
        rgba = np.asarray(rgba, np.float32)
        n, height, width, _ = rgba.shape
        # Channels first and flattened: every use below is a matrix product.
        color, opacity = np.split(rgba.reshape(n, height * width, 4).transpose(0, 2, 1), [3], 1)
        foreground = np.multiply(color, 2, order="C")  # in place from here: this may be large
        foreground -= 1
        foreground *= opacity
        params = {"foreground": jnp.asarray(foreground), "behind": jnp.asarray(1 - opacity[:, 0])}
        return cls(params, tuple(captions), (height, width, 3), **kwargs)

    def architecture(self) -> "EmpiricalPrior":
        """Return it without its pictures and what is said of them."""
        return dataclasses.replace(self, params=None, captions=(), poses=None)

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Mark the pictures that match each prompt; no match at all marks every picture."""
        rows = np.stack([matching(prompt, self.captions) for prompt in prompts])
        return Conditioning(
            states=jnp.asarray(rows, jnp.float32)[:, None, :],
            mask=jnp.ones((len(prompts), 1), bool),
        )

    def cameras(self, prompt: str) -> Camera | None:
        """Return the cameras of all pictures of what a prompt names, if they are known.

        Of all sides of it, also where the prompt has a view word.
        """
        if self.poses is None:
            return None
        found = matching(prompt, self.captions)
        nouns = {c.noun for c, fits in zip(self.captions, found, strict=True) if fits}
        (index,) = np.nonzero([caption.noun in nouns for caption in self.captions])
        return jax.tree.map(lambda x: np.asarray(x)[index], self.poses)

    def unknown_words(self, prompt: str) -> list[str]:
        """Return words that neither name a known noun nor belong to the usual templates."""
        known = set(TEMPLATE_WORDS)
        for caption in self.captions:
            for name in (caption.noun, *caption.synonyms):
                if contains_phrase(prompt, name):
                    known.update(words_of(name))
            known.update(words_of(caption.look))
        return [w for w in words_of(prompt) if w not in known and singular(w) not in known]

    def eps_hat(
        self,
        params: dict[str, Any],
        z_t: Float[Array, "batch height width 3"],
        t: Float[Array, "batch"],
        embeddings: Conditioning,
    ) -> Float[Array, "batch height width 3"]:
        """(z_t - alpha_t E[x | z_t, y]) / sigma_t."""
        alpha, sigma = self.schedule.alpha_sigma(t)
        mean = self.posterior_mean(params, z_t, alpha, sigma, embeddings.states[:, 0, :])
        alpha, sigma = alpha[:, None, None, None], sigma[:, None, None, None]
        return (z_t - alpha * mean) / sigma

    def posterior_mean(
        self,
        params: dict[str, Any],
        z_t: Float[Array, "batch height width 3"],
        alpha: Float[Array, "batch"],
        sigma: Float[Array, "batch"],
        matches: Float[Array, "batch n"],
    ) -> Float[Array, "batch height width 3"]:
        """E[x | z_t, y] over the matching pictures and all background colors."""
        foreground, behind = params["foreground"], params["behind"]
        batch, height, width, _ = z_t.shape
        z = z_t.transpose(0, 3, 1, 2).reshape(batch, 3, height * width)
        alpha, variance = alpha[:, None], (sigma**2)[:, None]

        # Given picture i, the background's posterior per channel: precision and mean.
        behind_z = _einsum("np,bcp->bnc", behind, z)
        behind_foreground = _einsum("np,ncp->nc", behind, foreground)
        behind_squared = jnp.sum(behind**2, axis=-1)
        precision = alpha**2 * behind_squared / variance + 1 / self.background_std**2
        projection = alpha[..., None] * (behind_z - alpha[..., None] * behind_foreground)
        color = projection / variance[..., None] / precision[..., None]

        # log p(z | i) up to what is equal for all pictures.
        # The pictures as they lie in memory: otherwise all of them are copied in every step.
        flat = foreground.reshape(len(foreground), -1)
        cross = _einsum("nk,kb->nb", flat, z.reshape(batch, -1).T).T
        squared = alpha**2 * jnp.sum(foreground**2, axis=(1, 2)) - 2 * alpha * cross
        evidence = 0.5 * precision * jnp.sum(color**2, axis=-1) - 1.5 * jnp.log(precision)
        logits = evidence - 0.5 * squared / variance
        weights = jax.nn.softmax(jnp.where(matches > 0, logits, -jnp.inf), axis=-1)

        mean = _einsum("bn,ncp->bcp", weights, foreground)
        mean += _einsum("bnc,np->bcp", weights[..., None] * color, behind)
        return mean.reshape(batch, 3, height, width).transpose(0, 2, 3, 1)


def matching(prompt: str, captions: Sequence[Caption]) -> Bool[np.ndarray, "n"]:
    """Return which captions fit a prompt best: by look, by noun, and among these by their view.

    The longest name wins: "coffee table" is not a "table". The empty prompt fits all of them.
    """
    if not prompt.strip():
        return np.ones(len(captions), bool)
    looks = np.array([_longest(prompt, (c.look,) if c.look else ()) for c in captions])
    plain = np.array([not c.look for c in captions])
    selected = looks == looks.max() if looks.any() else plain
    nouns = np.array([_longest(prompt, (c.noun, *c.synonyms)) for c in captions])
    selected &= nouns == nouns[selected].max(initial=0)
    views = np.array([_longest(prompt, c.views) for c in captions])
    return selected & (views == views[selected].max())


@functools.lru_cache(maxsize=4096)
def _longest(prompt: str, names: tuple[str, ...]) -> int:
    """Return the length of the longest of these names that the prompt contains, 0 if none."""
    return max((len(name) for name in names if contains_phrase(prompt, name)), default=0)
