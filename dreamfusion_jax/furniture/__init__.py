"""The library of furniture, the prior and the retrieval evaluator made of it, and its suites.

The rest of the package reaches it through the registry, which imports this to see what there is.
"""

from dreamfusion_jax.registry import declare

declare("command", "train-prior", "dreamfusion_jax.furniture.commands.train_prior")
declare("command", "train-evaluator", "dreamfusion_jax.furniture.commands.train_evaluator")
