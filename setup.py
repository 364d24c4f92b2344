"""Installs dreamfusion_jax and its `dreamfusion` command."""

import setuptools

EXTRAS = {
    "cuda": ["jax[cuda]"],
    "tpu": ["jax[tpu]"],
    "hub": ["huggingface_hub"],
    "data": [
        "tensorflow-datasets>=4.9.6",
        "array_record",
        "importlib_resources",
        "pyvista>=0.44",
    ],
    "view": ["viser>=1.0.20"],
    "test": [
        "pytest>=8",
        "hypothesis",
        "beartype",
        "pytest-timeout",
        "pytest-xdist",
        "nbclient",
        "ipykernel",
    ],
}

setuptools.setup(
    name="dreamfusion_jax",
    version="0.1.0",
    description="Text-to-3D by score distillation (DreamFusion) in pure JAX/Flax",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        *setuptools.find_packages(include=["dreamfusion_jax*"]),
        "dreamfusion_jax.configs",
    ],
    package_dir={"dreamfusion_jax.configs": "configs"},
    package_data={
        "dreamfusion_jax": ["furniture/assets/**/*", "prompts/word_vectors.*", "py.typed"]
    },
    install_requires=[
        "jax>=0.7",
        "flax>=0.11",
        "optax>=0.2.5",
        "distrax>=0.1.7",
        "numpy",
        "ml_collections>=1.0",
        "orbax-checkpoint>=0.11",
        "jaxtyping>=0.2.36",
        "filelock",
        "tqdm",
        "pillow",
        "imageio-ffmpeg",
        "scikit-image",
        "scipy",
        "trimesh>=4.6",
        "xatlas>=0.0.9",
        "fast-simplification>=0.1.9",
        "tensorboardX>=2.6",
        "safetensors",
        "tokenizers",
        "sentencepiece",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["dreamfusion=dreamfusion_jax.cli:main"]},
)
