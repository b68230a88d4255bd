"""Tiny models and diffusers' pipelines around the very same weights."""

import sys
from pathlib import Path

import pytest
import torch
import transformers

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "vlm")]

from hugging_face import HuggingFace  # noqa: E402

import vlm  # noqa: E402
from vlm.families import FAMILIES  # noqa: E402
from vlm.tiny.folder import write_tiny  # noqa: E402

torch.set_num_threads(1)


class TextAlone:
    """A family's own model and tokenizer, for one that sees nothing."""

    def __init__(self, family, folder):
        architecture = getattr(transformers, FAMILIES[family].architecture)
        self.model = architecture.from_pretrained(str(folder), dtype=torch.float32).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """`tiny(family, layers)`: our model and Hugging Face's own, of one folder, in float32."""
    made = {}

    def get(family, layers):
        if (family, layers) not in made:
            folder = write_tiny(tmp_path_factory.mktemp("tiny") / family, family, layers=layers)
            # Nothing that was seen before is reused: each prompt runs as it would alone.
            ours = vlm.load(folder, dtype="float32", prefix_cache_mb=0)
            theirs = HuggingFace if ours.family.has_vision else TextAlone
            made[family, layers] = ours, theirs(family, folder)
        return made[family, layers]

    return get
