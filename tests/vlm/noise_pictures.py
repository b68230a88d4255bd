"""A picture with all kinds of content, and how a model sees one."""

import numpy as np
from PIL import Image

from vlm.pictures.preprocessor import PatchPreprocessor


def noise(height, width, seed=0, mode="RGB", strength=60):
    """A picture with edges, gradients and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 200 // width, y * 200 // height, (x // 9 + y // 7) % 2 * 99], -1) + 28
    grain = rng.integers(-strength, strength, base.shape)
    values = np.clip(base + grain, 0, 255).astype(np.uint8)
    return Image.fromarray(values).convert(mode)


def patches(picture, rules, least=None, most=None):
    """One picture the way the model sees it."""
    (seen,) = PatchPreprocessor(rules, None).prepare_images(picture, least, most)
    return seen.patches()
