from tests.evaluation.conftest import (  # noqa: F401
    params,
    true_images,
    truth_scene,
    turned_scene,
)
from tests.train.conftest import stops_after_a_checkpoint_fixture  # noqa: F401
