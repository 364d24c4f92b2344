"""Measures published models on this machine, with random weights.

python launch/benchmark_models.py forward   the U-Net of Stable Diffusion 1.5, beside diffusers'
python launch/benchmark_models.py clip      CLIP ViT-B/32 beside transformers', and R-Precision
python launch/benchmark_models.py load      reading a folder of shards: time and peak memory
Each prints a table, and the same as one line of JSON for machines. `forward` and `clip` compare
where torch, diffusers and transformers are installed.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import math
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from arguments import count

BATCH, SIZE, TOKENS = 2, 64, 77  # both halves of guidance, 512 pixels


def main() -> int:
    """Run one measurement and prints what it found; 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("forward", help="time of one denoising step")
    command.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    command.add_argument("--repeats", type=count, default=3)
    command.add_argument("--without", action="store_true", help="do not run diffusers")
    command.set_defaults(run=forward)
    command = commands.add_parser("clip", help="CLIP's image tower, and R-Precision with it")
    command.add_argument("--kind", choices=("b32", "b16", "l14"), default="b32")
    command.add_argument("--images", type=count, default=2000)
    command.add_argument("--captions", type=count, default=153)
    command.add_argument("--repeats", type=count, default=5)
    command.add_argument("--without", action="store_true", help="do not run transformers")
    command.set_defaults(run=clip)
    command = commands.add_parser("load", help="time and peak memory of reading a model")
    command.add_argument("--parameters", type=float, default=2e9)
    command.add_argument("--folder", type=Path, help="an existing one, instead of a synthetic one")
    command.set_defaults(run=load)
    options = parser.parse_args()
    from dreamfusion_jax.errors import UserError
    from dreamfusion_jax.xla_flags import prefer_fast_convolutions

    prefer_fast_convolutions()
    try:
        figures = options.run(options)
    except UserError as error:
        print(f"benchmark_models: {error}", file=sys.stderr)
        return 2
    for key, value in figures.items():
        print(f"{key:<36} {value}")
    print(json.dumps(figures))
    return 0


def forward(options: argparse.Namespace) -> dict:
    """Time one evaluation: the best of each side's dtypes, and their ratio."""
    import jax
    from benchmark import surroundings

    figures = surroundings() | {"batch": BATCH, "latents": SIZE}
    ours = {dtype: _forward_ours(dtype, options.repeats) for dtype in options.dtypes}
    figures |= {f"ours, {dtype}, s": round(t, 3) for dtype, t in ours.items()}
    if options.without or _missing("torch", "diffusers"):
        return figures
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    theirs = {dtype: _forward_theirs(dtype, options.repeats, device) for dtype in options.dtypes}
    figures |= {f"diffusers', {dtype}, s": round(t, 3) for dtype, t in theirs.items()}
    ratio = min(theirs.values()) / min(ours.values())
    return figures | {"times faster than diffusers": round(ratio, 2)}


def _missing(*packages: str) -> bool:
    lacking = [name for name in packages if importlib.util.find_spec(name) is None]
    if lacking:
        print(f"{' and '.join(lacking)} not installed: nothing to compare with", file=sys.stderr)
    return bool(lacking)


def _forward_ours(dtype: str, repeats: int) -> float:
    import jax
    import jax.numpy as jnp
    from make_model_folder import SD_UNET

    from dreamfusion_jax.models.unet import unet_from_config

    unet = unet_from_config(SD_UNET, jnp.dtype(dtype))
    inputs = (
        jnp.ones((BATCH, SIZE, SIZE, 4)),
        jnp.full(BATCH, 500.0),
        jnp.ones((BATCH, TOKENS, SD_UNET["cross_attention_dim"])),
    )
    shapes = jax.eval_shape(unet.init, jax.random.key(0), *inputs)["params"]
    draw = jax.jit(lambda key, shape: 0.02 * jax.random.normal(key, shape, dtype), static_argnums=1)
    params = jax.tree.map(lambda leaf: draw(jax.random.key(0), leaf.shape), shapes)
    apply = jax.jit(unet.apply)
    return _best(lambda: jax.block_until_ready(apply({"params": params}, *inputs)), repeats)


def _forward_theirs(dtype: str, repeats: int, device: str) -> float:
    import diffusers
    import torch
    from make_model_folder import SD_UNET

    kind = getattr(torch, dtype)
    unet = diffusers.UNet2DConditionModel(**SD_UNET).eval().to(device, kind)
    x = torch.ones((BATCH, 4, SIZE, SIZE), device=device, dtype=kind)
    text = torch.ones((BATCH, TOKENS, SD_UNET["cross_attention_dim"]), device=device, dtype=kind)

    def call():
        with torch.no_grad():
            unet(x, 500, text)
        if device == "cuda":
            torch.cuda.synchronize()

    return _best(call, repeats)


def clip(options: argparse.Namespace) -> dict:
    """Time 32 pictures on each side, and all pictures among all captions."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from benchmark import surroundings
    from make_model_folder import clip_config, write_clip

    from dreamfusion_jax.pretrained.clip_folder import load_clip

    pixels = np.random.default_rng(0).standard_normal((32, 224, 224, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        write_clip(Path(folder), clip_config(options.kind), dtype="float32")
        model = load_clip(folder)
    embed = jax.jit(model.embed)
    here = jnp.asarray(pixels)
    ours = _best(lambda: jax.block_until_ready(embed(model.params, here)), options.repeats)
    figures = surroundings() | {"kind": options.kind, "ours, 32 pictures, s": round(ours, 3)}
    if not (options.without or _missing("torch", "transformers")):
        device = "cpu" if jax.default_backend() == "cpu" else "cuda"
        theirs = _clip_theirs(clip_config(options.kind), pixels, options.repeats, device)
        figures["transformers', 32 pictures, s"] = round(theirs, 3)
        figures["times faster than transformers"] = round(theirs / ours, 2)
    return figures | _retrieve(model, options.images, options.captions)


def _clip_theirs(config: dict, pixels, repeats: int, device: str) -> float:
    import torch
    import transformers

    parts = {f"{name}_config": config[f"{name}_config"] for name in ("vision", "text")}
    described = transformers.CLIPConfig(**parts, projection_dim=config["projection_dim"])
    model = transformers.CLIPModel(described).eval().to(device)
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).to(device)

    def call():
        with torch.no_grad():
            model.get_image_features(pixel_values=images)
        if device == "cuda":
            torch.cuda.synchronize()

    return _best(call, repeats)


def _retrieve(model, images: int, captions: int) -> dict:
    """Time R-Precision of so many pictures of 128 pixels, eight a result, as in `evaluate`."""
    import numpy as np

    from dreamfusion_jax.evaluation.retrieval import ResultImages, evaluate_retrieval

    texts = [f"a photo of thing {i}" for i in range(captions)]
    renders = np.random.default_rng(0).random((8, 128, 128, 3), np.float32)
    shown = (
        ResultImages(str(i), texts[i % captions], {"color": renders}) for i in range(images // 8)
    )
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        evaluate_retrieval(model, texts, shown, about={})
    seconds = time.perf_counter() - began
    return {f"R-Precision, {images} pictures among {captions}, s": round(seconds, 1)}


def _best(call, repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def load(options: argparse.Namespace) -> dict:
    """Read a model like DeepFloyd IF, half-precision shards as bfloat16, in a fresh process."""
    from dreamfusion_jax.errors import UserError

    if options.folder:
        if not options.folder.is_dir():
            raise UserError(f"There is no folder {options.folder}.")
        return _load_fresh(options.folder)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), options.parameters)
        return _load_fresh(Path(folder))


def _write(folder: Path, parameters: float) -> None:
    """Return an IF whose U-Net has about so many parameters, with a narrow T5."""
    from make_model_folder import write_if

    from dreamfusion_jax.diffusion.deepfloyd import if_config

    # Parameters grow with the square of the width: 4.3e9 at 704.
    width = max(64, 64 * round(704 * math.sqrt(parameters / 4.3e9) / 64))
    unet = if_config(width) | {"encoder_hid_dim": 1024}
    text = {"d_model": 1024, "d_ff": 2816, "num_heads": 16}
    write_if(folder, unet, text, dtype="float16", variant="fp16", shard_bytes=5e8)


_READER = """
import json, sys, time
import jax
from dreamfusion_jax.diffusion.load import load_prior
import benchmark_models
jax.devices()
watch = benchmark_models.Watch()
base = watch.peak()  # Python, JAX and this package
began = time.perf_counter()
prior = load_prior(sys.argv[1], dtype="bfloat16")
jax.block_until_ready(prior.encode(["a chair", ""]).states)
text, text_s = watch.peak() - base, time.perf_counter() - began
watch.forget()
began = time.perf_counter()
params = jax.block_until_ready(prior.params)
seconds, peak = time.perf_counter() - began, watch.peak() - base
size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
print(json.dumps({
    "U-Net, parameters": size // 2, "U-Net, bf16, GB": round(size / 1e9, 3),
    "text encoder, s": round(text_s, 1), "text encoder, peak GB": round(text / 1e9, 3),
    "reading the U-Net, s": round(seconds, 1), "peak GB": round(peak / 1e9, 3),
    "peak / size": round(peak / size, 3),
}))
"""


class Watch:
    """The most memory that the process has had since, by looking every few milliseconds."""

    def __init__(self):
        self.forget()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self):
        page = resource.getpagesize()
        while True:
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            self._peak = max(self._peak, resident)
            time.sleep(0.002)

    def forget(self) -> None:
        """Look anew."""
        self._peak = 0

    def peak(self) -> int:
        """Bytes."""
        time.sleep(0.01)
        return self._peak


def _load_fresh(folder: Path) -> dict:
    from benchmark import surroundings

    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r})\n{_READER}"
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return surroundings() | json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
