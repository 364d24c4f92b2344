import jax.numpy as jnp
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.pretrained.folder import ModelFolder, choose_files

ONE = ["diffusion_pytorch_model.safetensors"]
HALF = ["diffusion_pytorch_model.fp16.safetensors"]
SHARDS = [f"model.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)]
OLD_SHARDS = [f"model-0000{i}-of-00002.fp16.safetensors" for i in (1, 2)]
WHOLE_SHARDS = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
EIGHT_BITS = [f"model.8bit-0000{i}-of-00002.safetensors" for i in (1, 2)]
NOT_AVERAGED = ["diffusion_pytorch_model.non_ema.safetensors"]
BESIDE = ["config.json", "model.safetensors.index.json", "pytorch_model.bin", "model.onnx"]


@pytest.mark.parametrize(
    ("names", "dtype", "chosen"),
    [
        (ONE + HALF + BESIDE, jnp.float32, ONE),
        (ONE + HALF + BESIDE, jnp.bfloat16, HALF),
        (ONE, jnp.bfloat16, ONE),
        (HALF, jnp.float32, HALF),
        (SHARDS + WHOLE_SHARDS + BESIDE, jnp.bfloat16, SHARDS),
        (SHARDS[::-1] + WHOLE_SHARDS[::-1], jnp.float32, WHOLE_SHARDS),
        (OLD_SHARDS, jnp.bfloat16, OLD_SHARDS),
        (EIGHT_BITS + SHARDS, jnp.float32, SHARDS),
        (EIGHT_BITS + BESIDE, jnp.float32, EIGHT_BITS),
        (NOT_AVERAGED + HALF, jnp.float32, HALF),
        (NOT_AVERAGED + BESIDE, jnp.bfloat16, NOT_AVERAGED),
    ],
)
def test_the_variant_that_suits_the_dtype_is_chosen(names, dtype, chosen):
    assert choose_files(names, dtype, "unet") == chosen


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (WHOLE_SHARDS[:2], "2 of the 3 files"),
        (["diffusion_pytorch_model.bin"], r"pickles only .*could run any code"),
        (["diffusion_flax_model.msgpack"], r"in Flax's format only \(.msgpack\)"),
        (["chair.safetensors"], r"none of a published name \(chair.safetensors\)"),
        (["config.json"], "no .safetensors files"),
        ([], "no .safetensors files"),
    ],
)
def test_files_that_are_missing_are_named(names, message):
    with pytest.raises(UserError, match=message):
        choose_files(names, jnp.float32, "unet")


def test_configs_that_cannot_be_read_are_named(tmp_path):
    folder = ModelFolder(tmp_path)
    with pytest.raises(UserError, match=r"not a whole model: unet/config.json cannot be read"):
        folder.config("unet")
    (tmp_path / "scheduler").mkdir()
    for text in ("{", "[]"):
        (tmp_path / "scheduler" / "scheduler_config.json").write_text(text)
        with pytest.raises(UserError, match="scheduler_config.json is not"):
            folder.config("scheduler")
