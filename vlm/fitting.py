"""Which of the models that are there suits a diffusion model: told from what their files say."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .families import FAMILIES
from .files.json_file import read_json
from .targets import Target
from .weights.safetensors_header import Entry, read_header
from .weights.tensor_names import find_model_type

_NORM = re.compile(r"(?:^|\.)layers\.\d+\.input_layernorm\.weight$")
_QWEN3 = re.compile(r"(?:^|\.)layers\.0\.self_attn\.q_norm\.weight$")
_SEEING = ("visual.", "vision_")


@dataclass(frozen=True)
class ModelFacts:
    """What decides whether a model suits a target.

    Attributes:
        family: `model_type` of its family.
        width: Of its hidden states.
        num_layers: Decoder layers and the embeddings.
    """

    family: str
    width: int
    num_layers: int

    @property
    def sees(self) -> bool:
        """Whether it takes pictures."""
        return FAMILIES[self.family].vision is not None


def read_facts(path: Path) -> ModelFacts | None:
    """What a model folder's config.json or a single file's header says.

    Args:
        path: The folder, or a .safetensors file.

    Returns:
        None where they do not say it, or cannot be read.
    """
    try:
        if path.is_dir():
            return _of_config(read_json(path / "config.json"))
        return _of_tensors(read_header(path).entries)
    except (OSError, ValueError):
        return None


def best_for(
    target: Target, models: Mapping[str, ModelFacts], known: Collection[str] = ()
) -> str | None:
    """The model to take for a target: of its encoder's generation, as wide and deep enough.

    Args:
        target: The diffusion model that will read the result.
        models: What is there, by name.
        known: Names to be preferred among equals.

    Returns:
        One that sees before one that does not, then one of `known`, then the first; None where
        none suits, and for targets that a connector reads: its own VLM is what counts.
    """
    suiting = [name for name, facts in models.items() if _suits(target, facts)]
    return min(suiting, key=lambda name: (not models[name].sees, name not in known), default=None)


def fix_width(target: Target, width: int, choose: str = "") -> str:
    """What is to be said of a model whose width a target cannot read.

    Args:
        target: The diffusion model that will read the result.
        width: Of the model's hidden states.
        choose: How to take one that is there ("Choose NAME"); "" = none is.

    Returns:
        A sentence; "" where the width is right, or any is.
    """
    wanted = target.encoder_width
    if target.layers is None or wanted is None or wanted == width:
        return ""
    if not choose:
        choose = f"Load {target.encoder}"
        if "VL" not in target.encoder:
            choose += " or, for pictures, the Qwen3-VL of its size"
    return (
        f"This VLM is {width} wide, {target.title} reads {wanted} ({target.encoder}). {choose}, or "
        "put a connector in between."
    )


def _suits(target: Target, facts: ModelFacts) -> bool:
    if target.layers is None or target.encoder_width != facts.width:
        return False
    generation = FAMILIES[facts.family].title.split("-")[0]
    if generation != target.encoder.split("-")[0]:
        return False
    try:
        target.depth(facts.num_layers, images=True)
    except ValueError:  # not that deep
        return False
    return True


def _of_config(config: dict[str, Any]) -> ModelFacts | None:
    text, kind = config.get("text_config"), config.get("model_type")
    inner = text if isinstance(text, dict) else config
    width, layers = inner.get("hidden_size"), inner.get("num_hidden_layers")
    if not isinstance(kind, str) or kind not in FAMILIES:
        return None
    if not isinstance(width, int) or not isinstance(layers, int):
        return None
    return ModelFacts(kind, width, layers + 1)


def _of_tensors(entries: Mapping[str, Entry]) -> ModelFacts | None:
    """Of a Qwen VLM's file, or of a Qwen3 that cannot see."""
    norms = [name for name in entries if _NORM.search(name)]
    kind = find_model_type(entries)
    blind = not any(part in name for name in entries for part in _SEEING)
    if kind is None and blind and any(_QWEN3.search(name) for name in entries):
        kind = "qwen3"
    if kind is None or not norms or len(entries[norms[0]].shape) != 1:
        return None
    return ModelFacts(kind, entries[norms[0]].shape[0], len(norms) + 1)
