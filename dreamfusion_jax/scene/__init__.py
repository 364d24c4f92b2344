import warnings

with warnings.catch_warnings():
    # TensorFlow Probability, through distrax: with `python -W error` it could not be imported.
    warnings.filterwarnings("ignore", r"jax\.core\.pytype_aval_mappings", DeprecationWarning)
    import distrax  # noqa: F401
