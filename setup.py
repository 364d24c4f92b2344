"""Installs dreamfusion_jax and its `dreamfusion` command."""

import ast
import pathlib
import re

import setuptools

# There is no public address yet: this one constant is to be set.
HOMEPAGE = "https://github.com/YOUR-ORG/dreamfusion_jax"
HERE = pathlib.Path(__file__).parent

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
        "build",
        "pytest-timeout",
        "pytest-xdist",
        "nbclient",
        "ipykernel",
    ],
    "dev": ["build==1.6.1", "mypy==2.4.1", "pre-commit==4.7.0", "ruff==0.17.6"],
}


def version() -> str:
    """Return the package's `__version__`, without importing it."""
    source = (HERE / "dreamfusion_jax" / "__init__.py").read_text()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return ast.literal_eval(node.value)
    raise ValueError("dreamfusion_jax/__init__.py has no __version__.")


def long_description() -> str:
    """Return README.md with the addresses of what it shows and links to in the repository."""
    text = (HERE / "README.md").read_text()
    relative = r"\]\((?!https?:|#)"
    text = re.sub(rf"(!\[[^\]]*){relative}", rf"\1]({HOMEPAGE}/raw/main/", text)
    return re.sub(relative, f"]({HOMEPAGE}/blob/main/", text)


setuptools.setup(
    name="dreamfusion_jax",
    version=version(),
    description="Text-to-3D by score distillation (DreamFusion) in pure JAX/Flax",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    author="The dreamfusion_jax authors",
    url=HOMEPAGE,
    project_urls={
        "Documentation": f"{HOMEPAGE}/tree/main/docs",
        "Source": HOMEPAGE,
        "Issues": f"{HOMEPAGE}/issues",
    },
    keywords=[
        *("text-to-3D", "DreamFusion", "score distillation", "NeRF"),
        *("diffusion models", "JAX", "Flax", "TPU"),
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Graphics :: 3D Modeling",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=[
        *setuptools.find_packages(include=["dreamfusion_jax*"]),
        "dreamfusion_jax.configs",
    ],
    package_dir={"dreamfusion_jax.configs": "configs"},
    # Of the library's data only what the default prior needs: furniture/shipped.py finds the rest.
    package_data={
        "dreamfusion_jax": [
            "furniture/assets/object_views/*",
            "prompts/word_vectors.*",
            "py.typed",
        ]
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
