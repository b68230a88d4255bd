"""Built-in tiny models: a random model as a complete Hugging Face folder, made in a second or two.

They have the families' real structure (M-RoPE, DeepStack, window attention, special tokens, chat
template) at toy size, so that a workflow, a test or a first look needs no download.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..families import FAMILIES as KNOWN
from ..families import Family
from ..files.whole_file import write_whole
from ..quoted import told
from ..weights.empty_model import build_empty
from ..weights.experts import as_published
from ..weights.folder import build_config, what_runs
from ..weights.tensor_names import our_name
from . import TOYS, Tiny
from .qwen_tokenizer import make_tokenizer, make_tokenizer_config
from .weights import draw

FAMILIES = tuple(TOYS)
MOST_WIDTH, MOST_LAYERS = 65536, 1000  # beyond any model it could stand for
MARK = "vlm_tiny"  # key in the weight file's metadata: this folder may be overwritten


def _check(family: str, width: int, layers: int) -> None:
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ValueError(
            f"There is no tiny model of the family {told(family)}. Use one of: {known}."
        )
    if width > MOST_WIDTH:
        raise ValueError(f"A tiny model is at most {MOST_WIDTH} wide. Lower `width`.")
    step = TOYS[family].step(width)
    if width < 16 or width % step:
        raise ValueError(
            f"A tiny {family} model cannot be {width} wide; expected a multiple of {step}. "
            f"Try {max(step, round(width / step) * step)}."
        )
    if layers < 1:
        raise ValueError(f"A tiny model needs at least 1 decoder layer, got {layers}.")
    if layers > MOST_LAYERS:
        raise ValueError(f"A tiny model has at most {MOST_LAYERS} decoder layers. Lower `layers`.")


def is_tiny(folder: str | Path) -> bool:
    """Whether a folder holds a model that `write_tiny` made (its weight file says so)."""
    weights = Path(folder) / "model.safetensors"
    try:
        with safe_open(weights, framework="pt") as file:
            return MARK in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def _state_dict(
    family: Family, toy: Tiny, config: dict[str, Any], where: Path
) -> dict[str, torch.Tensor]:
    """Every parameter by its published name."""
    config = what_runs(config)
    model = build_empty(build_config(config, family, where), family, where)
    shapes = {}
    for own, tensor in model.state_dict().items():
        name = our_name(own, family)
        if name is None:  # computed, not stored
            continue
        ours = next(begin for begin in toy.names if name.startswith(begin))
        shapes[toy.names[ours] + name.removeprefix(ours)] = tuple(tensor.shape)
    shapes = as_published(shapes)
    if not config["tie_word_embeddings"]:
        head = toy.names.get("lm_head.", "lm_head.") + "weight"
        language: Any = model.get_submodule(family.language)
        shapes[head] = tuple(language.embed_tokens.weight.shape)
    weights = {name: draw(name, shape, toy.norm(name)) for name, shape in shapes.items()}
    for name in weights:
        if name.endswith("embed_tokens.weight"):
            weights[name] /= toy.embed_scale(weights[name].shape[1])
    return weights


def _check_folder(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not is_tiny(out))):
        raise ValueError(
            f"{out} already holds something that is not a built-in tiny model; "
            "nothing was written. Name an empty or a new folder."
        )


def _contents(family: Family, toy: Tiny, tokenizer: dict, config: dict) -> dict[str, dict]:
    """The JSON files of the folder by name."""
    template, files = family.chat_template, toy.files
    processor = files.get("preprocessor_config.json", {}).get("processor_class")
    settings = make_tokenizer_config(tokenizer, template, processor)
    return {
        "config.json": config,
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": settings | toy.tokenizer_config,
        "chat_template.json": {"chat_template": template},  # where processors look
        **files,
    }


def write_tiny(
    out: str | Path, family: str = "qwen3_vl", width: int = 64, layers: int = 36
) -> Path:
    """Writes a tiny random model as a complete Hugging Face folder: weights float32, JSON, UTF-8.

    Every parameter comes from a generator seeded by its name in the published checkpoint layout:
    the same bits on every version of torch and transformers, and a model with fewer layers equals
    the first layers of a deeper one. Only the token stream is as wide as asked: Qwen3-VL always
    has 4 heads of 16 and an inner width of 128, so that 2560 or 4096 wide stays small; Qwen2-VL,
    Qwen2.5-VL and InternVL, whose heads must fill the width, have heads of 16 (of 128 from 1024
    on).

    Args:
        out: folder to write; made if it is missing.
        family: One of `FAMILIES`.
        width: width D of the language model's hidden states; a multiple of 16 (Qwen2-VL,
            Qwen2.5-VL and InternVL: of 128 from 1024 on).
        layers: number of decoder layers, at least 1.

    Returns:
        The folder.

    Raises:
        ValueError: unknown family, a width or layer count that cannot be, or a folder that holds
            something else than a tiny model.
    """
    out = Path(out)
    _check(family, width, layers)
    _check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    known, toy = KNOWN[family], TOYS[family]
    tokenizer = (toy.tokenizer or make_tokenizer)()
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    config = toy.config(width, layers, ids)
    # Weights first: they carry the mark that lets an interrupted write be repeated.
    metadata = {"format": "pt", MARK: f"{family} width {width} layers {layers}"}
    write_whole(out / "model.safetensors", save(_state_dict(known, toy, config, out), metadata))
    for name, content in _contents(known, toy, tokenizer, config).items():
        text = json.dumps(content, ensure_ascii=False, indent=2)
        (out / name).write_text(text + "\n", encoding="utf-8")
    return out
