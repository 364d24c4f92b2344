"""The distributions that cameras, lights, samples and noise are drawn from: Distrax's."""

import warnings

with warnings.catch_warnings():
    # TensorFlow Probability, which Distrax imports: `python -W error` would end there.
    warnings.filterwarnings("ignore", r"jax\.core\.pytype_aval_mappings", DeprecationWarning)
    from distrax import Bernoulli, Normal, Uniform

__all__ = ["Bernoulli", "Normal", "Uniform"]
