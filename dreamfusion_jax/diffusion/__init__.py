"""The frozen prior: networks, schedules, samplers, and the reading of models."""


def __getattr__(name: str):
    # Imported on first use: the parts of this package do not need each other.
    if name == "load_prior":
        from dreamfusion_jax.diffusion.load import load_prior

        return load_prior
    if name == "Prior":
        from dreamfusion_jax.diffusion.prior import Prior

        return Prior
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
