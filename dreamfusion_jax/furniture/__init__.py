"""The shipped domain: objects, their exact prior, its network, and what evaluates both.

Nothing outside imports this folder: it declares its parts, and the rest works without it.
"""

from dreamfusion_jax.registry import declare

_HERE = "dreamfusion_jax.furniture"
# The default is the prior with the better scores: see the README.
declare("prior", "embedded", f"{_HERE}.exact_prior:FurnitureViews")
declare("prior", "furniture-views", f"{_HERE}.exact_prior:FurnitureViews")
declare("prior", "furniture-objects", f"{_HERE}.exact_prior:FurnitureObjects")
declare("prior", "furniture-unet", f"{_HERE}.network_prior:furniture_unet")
declare("command", "train-prior", f"{_HERE}.commands.train_prior")
declare("command", "train-evaluator", f"{_HERE}.commands.train_evaluator")
declare("suite", "furniture", f"{_HERE}.suites:RunsSuite")
declare("suite", "prior", f"{_HERE}.suites:PriorSuite")
declare("suite", "evaluator", f"{_HERE}.suites:EvaluatorSuite")
declare("retrieval_model", "embedded", f"{_HERE}.retrieval_evaluator:embedded_retrieval_model")
