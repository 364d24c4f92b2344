"""What is on people's disks and is not a model as it was published."""

import json
import os
import pathlib
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from dreamfusion_jax.diffusion.load import is_pretrained, load_prior
from dreamfusion_jax.diffusion.pretrained_prior import check_kind, load_pretrained
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.pretrained.folder import ModelFolder, resolved
from dreamfusion_jax.pretrained.text_encoders import text_encoder_of


@pytest.fixture
def sd(sd_folder, tmp_path):
    return shutil.copytree(sd_folder, tmp_path / "SD")


@pytest.fixture
def deepfloyd(if_folder, tmp_path):
    return shutil.copytree(if_folder, tmp_path / "IF")


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def rewrite(path, to):
    """Replaces a file's tensors by what a function makes of them."""
    safetensors.numpy.save_file(to(safetensors.numpy.load_file(path)), path)


WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}


def weights(folder, part):
    return folder / part / f"{WEIGHTS.get(part, 'model')}.safetensors"


@pytest.mark.parametrize(
    ("part", "name", "message"),
    [
        ("vae", "AutoencoderTiny", "vae is of the class 'AutoencoderTiny', a small stand-in"),
        ("unet", "MultiViewUNetModel", "'MultiViewUNetModel', MVDream's UNet for several views"),
        ("unet", "UNet3DConditionModel", "a UNet for video"),
        ("unet", "SomethingNew", "of the class 'SomethingNew': it is not supported"),
        ("unet", ["UNet2DConditionModel"], "it is not supported"),
    ],
)
def test_other_classes_are_named(sd, part, name, message):
    change(sd / part / "config.json", _class_name=name)
    with pytest.raises(UserError, match=message):
        load_pretrained(sd)


@pytest.mark.parametrize(
    ("parts", "name", "message"),
    [
        (("transformer", "vae"), "FluxPipeline", r"'FluxPipeline'\) has a diffusion transformer"),
        (("decoder", "vqgan"), "StableCascadeCombinedPipeline", "as Stable Cascade has"),
        (("prior",), "StableCascadePriorPipeline", "as Stable Cascade and Kandinsky have"),
    ],
)
def test_models_without_a_unet_are_named(tmp_path, parts, name, message):
    index = {"_class_name": name} | dict.fromkeys(parts, ["diffusers", "Any"])
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):  # as of the hub, where no other part is fetched
        check_kind(ModelFolder(tmp_path))
    for part in parts:
        (tmp_path / part).mkdir()
    with pytest.raises(UserError, match=message):
        load_prior(str(tmp_path))
    (tmp_path / "model_index.json").unlink()
    if parts[0] == "transformer":
        with pytest.raises(UserError, match="a diffusion transformer"):
            load_prior(str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_what_averaging_left_behind_is_ignored(sd, part):
    left = {"model_ema.decay": np.full(1, 0.99, np.float32), "model_ema.num_updates": np.full(1, 3)}
    rewrite(weights(sd, part), lambda t: t | left | {"model_ema.conv_in.weight": np.ones(3)})
    prior = load_pretrained(sd)
    if part == "vae":
        assert prior.params["vae"].keys() >= {"encoder", "decoder"}


@pytest.mark.slow
def test_only_weights_that_were_not_averaged(sd):
    path = weights(sd, "unet")
    path.rename(path.with_name("diffusion_pytorch_model.non_ema.safetensors"))
    load_pretrained(sd)


@pytest.mark.slow
def test_the_text_part_of_a_whole_clip_model_is_read(sd_folder, sd):
    config = json.loads((sd / "text_encoder" / "config.json").read_text())
    whole = {"model_type": "clip", "text_config": config, "vision_config": {"hidden_size": 8}}
    (sd / "text_encoder" / "config.json").write_text(json.dumps(whole))
    more = ("logit_scale", "vision_model.pre_layrnorm.weight", "text_projection.weight")
    rewrite(weights(sd, "text_encoder"), lambda t: t | dict.fromkeys(more, np.ones((8, 8))))
    states = [load_pretrained(folder).encode(["a chair"]).states for folder in (sd_folder, sd)]
    np.testing.assert_array_equal(*states)


def without_last_norm(tensors):
    return {n: a for n, a in tensors.items() if not n.startswith("text_model.final_layer_norm")}


def narrower(tensors):
    name = "text_model.encoder.layers.0.mlp.fc1.weight"
    return tensors | {name: tensors[name][:, :-1].copy()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "message"),
    [
        (without_last_norm, "text_encoder do not fit .* they lack final_layer_norm"),
        (narrower, "in another shape text_model.encoder.layers.0.mlp.fc1.weight"),
    ],
)
def test_clip_text_weights_are_checked_before_the_first_prompt(sd, to, message):
    rewrite(weights(sd, "text_encoder"), to)
    with pytest.raises(UserError, match=message):
        load_pretrained(sd)


@pytest.mark.slow
def test_parts_of_different_models_are_named(sd, deepfloyd):
    change(sd / "text_encoder" / "config.json", vocab_size=100)
    rewrite(
        weights(sd, "text_encoder"),
        lambda t: {n: a[:100] if "token_embedding" in n else a for n, a in t.items()},
    )
    with pytest.raises(UserError, match="tokenizer has the token .* knows 100"):
        load_pretrained(sd)
    change(deepfloyd / "text_encoder" / "config.json", vocab_size=97)
    with pytest.raises(UserError, match="do not fit .* the first is 'shared.weight'"):
        load_pretrained(deepfloyd)


def eight_bits(tensors):
    """As bitsandbytes stores a T5 encoder, which leaves wo and the embeddings as they are."""
    stored = {}
    for name, array in tensors.items():
        if array.ndim == 2 and not any(part in name for part in ("shared", "bias", ".wo.")):
            scale = np.abs(array).max(axis=1)
            stored[name] = np.round(array / scale[:, None] * 127).astype(np.int8)
            stored[name.removesuffix("weight") + "SCB"] = scale
        else:
            stored[name] = array
    return stored


@pytest.mark.slow
def test_a_text_encoder_of_8_bits_is_read(if_folder, deepfloyd):
    whole = {}
    for path in (deepfloyd / "text_encoder").glob("*.safetensors"):
        whole |= safetensors.numpy.load_file(path)
        path.unlink()
    stored = eight_bits(whole)
    assert any(name.endswith("q.SCB") for name in stored)
    safetensors.numpy.save_file(stored, deepfloyd / "text_encoder" / "model.8bit.safetensors")
    first, second = (load_pretrained(f).encode(["a chair"]).states for f in (if_folder, deepfloyd))
    assert 1e-4 < float(jnp.abs(first - second).max() / first.std()) < 0.1


@pytest.mark.parametrize("file", ["unet/diffusion_pytorch_model.safetensors", "vae/config.json"])
def test_pointers_of_git_lfs_are_named(sd, file):
    (sd / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match=f"{file} is a Git LFS pointer.*git lfs pull"):
        load_pretrained(sd)


def test_pointers_in_place_of_tokenizers_are_named(deepfloyd):
    path = deepfloyd / "tokenizer" / "spiece.model"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match="spiece.model is a Git LFS pointer"):
        text_encoder_of(ModelFolder(deepfloyd), jnp.float32)


@pytest.mark.slow
def test_a_folder_of_the_hubs_cache_is_its_snapshot(if_folder, tmp_path):
    root = tmp_path / "models--us--tiny"
    old, new = (root / "snapshots" / name for name in ("a" * 40, "b" * 40))
    old.parent.mkdir(parents=True)
    old.symlink_to(if_folder)
    shutil.copytree(if_folder, new)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(old.name)
    assert is_pretrained(str(root)) and resolved(root) == old
    assert load_prior(str(root)).image_shape == (8, 8, 3)
    os.utime(new)
    for text in ("c" * 40, "../../..", "\0", ""):
        (root / "refs" / "main").write_text(text)
        assert resolved(root) == new
    shutil.rmtree(root / "snapshots")
    (root / "snapshots").mkdir()
    with pytest.raises(UserError, match="no snapshot"):
        load_prior(str(root))


def test_what_stands_on_disk_is_no_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = pathlib.Path("models", "chair.safetensors")
    path.parent.mkdir()
    path.touch()
    assert not is_pretrained(str(path)) and is_pretrained("models/table")
    with pytest.raises(UserError, match="chair.safetensors is a file, and a prior is a folder"):
        load_prior(str(path))
    (tmp_path / "models" / "empty").mkdir()
    with pytest.raises(UserError, match="empty is not a model folder"):
        load_prior("models/empty")
    pathlib.Path("models", "gone").symlink_to("nowhere")
    with pytest.raises(UserError, match="There is no prior 'models/gone'"):
        load_prior("models/gone")


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "a/b.safetensors", 3])
def test_an_index_cannot_lead_out_of_its_folder(sd, name):
    index = {"weight_map": {"conv_in.weight": name}}
    (sd / "unet" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="which is not one beside it"):
        load_pretrained(sd)


@pytest.mark.slow
@pytest.mark.parametrize("size", [8, 9, [9, 9], [8, 8]])
def test_sides_that_are_odd(sd, size):
    change(sd / "unet" / "config.json", sample_size=size)
    side = size if isinstance(size, int) else size[0]
    assert load_pretrained(sd).latent_shape == (side, side, 4)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (9, "sample_size is 9, which a UNet of this kind cannot halve 1 times: .* multiple of 2"),
        ([8, 16], "pictures that are not square"),
        (10**12, "sample_size=1000000000000, which must be"),
        ("8", "sample_size='8', which must be"),
    ],
)
def test_sides_that_cannot_be(deepfloyd, size, message):
    change(deepfloyd / "unet" / "config.json", sample_size=size)
    with pytest.raises(UserError, match=message):
        load_pretrained(deepfloyd)


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("unet", {"norm_num_groups": 7}, r"norm_num_groups=7, which does not divide .* \(32\)"),
        ("unet", {"attention_head_dim": 5}, "attention_head_dim=5, which does not divide"),
        ("unet", {"layers_per_block": 10**9}, "layers_per_block=1000000000, which must be a whole"),
        ("unet", {"layers_per_block": True}, "layers_per_block=True, which must be"),
        ("unet", {"norm_eps": float("nan")}, "norm_eps=nan, which must be a number"),
        ("unet", {"act_fn": ["silu"]}, r"act_fn=\['silu'\], which must be one of 'gelu'"),
        ("unet", {"in_channels": 1e12}, "in_channels=1000000000000.0, which must be"),
        ("unet", {"down_block_types": 3}, "down_block_types=3, which must be a list"),
        ("vae", {"norm_num_groups": 5}, "norm_num_groups=5, which does not divide"),
        ("vae", {"block_out_channels": [-32, 32]}, "block_out_channels=.* which must be"),
        ("vae", {"scaling_factor": 0}, "scaling_factor=0, which must be"),
        ("text_encoder", {"num_attention_heads": 5}, "num_attention_heads=5, which does not"),
        ("text_encoder", {"hidden_size": "32"}, "hidden_size='32', which must be"),
        ("text_encoder", {"architectures": 3, "model_type": None}, "of the kind '[?]'"),
    ],
)
def test_configs_that_make_no_sense_are_named(sd, part, values, message):
    change(sd / part / "config.json", **values)
    with pytest.raises(UserError, match=message) as caught:
        load_pretrained(sd)
    assert str(sd) in str(caught.value)


def test_a_config_that_is_huge_or_nested_is_named(sd):
    for text, message in (
        ("[" * 100_000, "nested too deeply"),
        (" " * (2**22 + 1), "more than"),
    ):
        (sd / "unet" / "config.json").write_text(text)
        with pytest.raises(UserError, match=message):
            load_pretrained(sd)
