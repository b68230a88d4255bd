"""A VLM in one safetensors file: what lies beside it, and what the family's published models say.

The tensors tell the family and every size; counts of layers and what no tensor shows (rotary
settings, window attention, DeepStack) come from the published model of the same width, or from a
config.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..families import Family
from ..families.family import SingleFileDefaults
from ..files.json_file import read_json
from ..pictures.images import read_rules
from ..pictures.preprocessor import PatchPreprocessor
from ..pictures.video import read_video_rules
from .checkpoint import Checkpoint
from .tensor_names import LANGUAGE, VISUAL

SUFFIX = ".safetensors"
# Of the published models those up to 4B have no LM head of their own (their config.json files).
WIDEST_TIED = 2560


def config_beside(file: Path, family: Family) -> dict[str, Any] | None:
    """The config.json that belongs to a file, if there is one.

    Args:
        file: The weights. `NAME.json` beside `NAME.safetensors` belongs to it whatever it says,
            `config.json` if it names the same family: in a folder of many files it may be
            another's.
        family: As the tensors tell.

    Raises:
        ValueError: Not a JSON object.
    """
    own = file.with_suffix(".json")
    if own.is_file():
        return read_json(own)
    shared = file.parent / "config.json"
    if not shared.is_file():
        return None
    config = read_json(shared)
    return config if config.get("model_type") == family.model_type else None


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds tokenizer files."""
    there = {name: (folder / name).is_file() for name in ("vocab.json", "merges.txt")}
    return (folder / "tokenizer.json").is_file() or all(there.values())


def tokenizer_beside(file: Path) -> Path:
    """The folder of the tokenizer that lies beside a file.

    Raises:
        FileNotFoundError: There is none.
    """
    if has_tokenizer(file.parent):
        return file.parent
    raise FileNotFoundError(
        f"{file} comes without a tokenizer: neither tokenizer.json nor vocab.json with merges.txt "
        "lies beside it. Copy the tokenizer files of the model there, or pass the folder that has "
        "them: vlm.load(file, tokenizer=folder)."
    )


def published_config(checkpoint: Checkpoint, family: Family) -> dict[str, Any]:
    """config.json of the published model that a checkpoint's tensors are those of.

    Args:
        checkpoint: All tensors of the model.
        family: Its family.

    Raises:
        ValueError: No published model has this width, or a tensor that tells a size is missing.
    """
    published = _published(family)
    text, vision = _text_sizes(checkpoint, family), _vision_sizes(checkpoint, family)
    width = text["hidden_size"]
    tower = vision["embed_dim"] if "embed_dim" in vision else vision["hidden_size"]
    if width not in published.sizes or tower not in published.towers:
        sizes = ", ".join(f"{name} ({wide})" for wide, (name, _) in published.sizes.items())
        raise ValueError(
            f"{checkpoint.where} is a {family.title} {width} wide with a vision tower {tower} "
            f"wide; published are {sizes}. Put its config.json beside it as "
            f"{Path(checkpoint.where).stem}.json."
        )
    text |= published.text | {"num_hidden_layers": published.sizes[width][1]}
    vision |= published.vision | published.towers[tower] | {"model_type": family.model_type}
    nested = {"text_config": text} if published.text_nested else text
    return {
        **nested,
        "model_type": family.model_type,
        "vision_config": vision,
        "tie_word_embeddings": width <= WIDEST_TIED,
    }


def published_preprocessor(config: dict[str, Any], family: Family) -> PatchPreprocessor:
    """The preprocessing of a family's published models.

    Args:
        config: Content of config.json.
        family: Its family.
    """
    vision = config.get("vision_config") or {}
    look = _published(family).preprocessor
    return PatchPreprocessor(
        read_rules(look, vision), read_video_rules({}, look, vision, family.model_type)
    )


def _published(family: Family) -> SingleFileDefaults:
    """What a family's published models say.

    Raises:
        ValueError: Its models are not loaded from a single file.
    """
    if family.single_file is None:
        raise ValueError(
            f"A {family.title} cannot be read from a single file without its config.json, only "
            "Qwen2-VL, Qwen2.5-VL and Qwen3-VL can. Choose the whole folder of the model."
        )
    return family.single_file


def _text_sizes(checkpoint: Checkpoint, family: Family) -> dict[str, int]:
    layer = f"{LANGUAGE}layers.0"
    rows, width = _shape(checkpoint, f"{LANGUAGE}embed_tokens.weight", 2, family)
    published = _published(family)
    head = published.head_dim
    queries, keys = (
        _shape(checkpoint, f"{layer}.self_attn.{part}_proj.weight", 2, family)[0] for part in "qk"
    )
    sizes = {
        "vocab_size": rows,
        "hidden_size": width,
        "intermediate_size": _shape(checkpoint, f"{layer}.mlp.up_proj.weight", 2, family)[0],
        "num_attention_heads": queries // head,
        "num_key_value_heads": keys // head,
    }
    return sizes | ({"head_dim": head} if published.text_nested else {})


def _vision_sizes(checkpoint: Checkpoint, family: Family) -> dict[str, Any]:
    kernel = _shape(checkpoint, f"{VISUAL}patch_embed.proj.weight", 5, family)
    tower, channels, temporal, patch = kernel[:4]
    mlp = f"{VISUAL}blocks.0.mlp"
    sizes = {"patch_size": patch, "temporal_patch_size": temporal}
    if family.model_type == "qwen2_vl":
        inner = _shape(checkpoint, f"{mlp}.fc1.weight", 2, family)[0]
        out = _shape(checkpoint, f"{VISUAL}merger.mlp.2.weight", 2, family)[0]
        own = {"embed_dim": tower, "mlp_ratio": inner // tower, "hidden_size": out}
        return sizes | own | {"in_channels": channels}
    if family.model_type == "qwen2_5_vl":
        inner = _shape(checkpoint, f"{mlp}.up_proj.weight", 2, family)[0]
        out = _shape(checkpoint, f"{VISUAL}merger.mlp.2.weight", 2, family)[0]
    else:
        inner = _shape(checkpoint, f"{mlp}.linear_fc1.weight", 2, family)[0]
        out = _shape(checkpoint, f"{VISUAL}merger.linear_fc2.weight", 2, family)[0]
        places = _shape(checkpoint, f"{VISUAL}pos_embed.weight", 2, family)[0]
        sizes["num_position_embeddings"] = places
    own = {"hidden_size": tower, "intermediate_size": inner, "out_hidden_size": out}
    return sizes | own | {"in_channels": channels}


def _shape(checkpoint: Checkpoint, name: str, axes: int, family: Family) -> tuple[int, ...]:
    """Shape of a tensor that tells a size.

    Raises:
        ValueError: It is missing, or has another number of axes.
    """
    entry = checkpoint.entries.get(name)
    if entry is None or len(entry.shape) != axes:
        state = "is missing" if entry is None else f"has the shape {list(entry.shape)}"
        raise ValueError(
            f"The tensor {name} in {checkpoint.where} {state}, so the sizes of this {family.title} "
            f"cannot be read; expected are {axes} axes. Download the file again."
        )
    return entry.shape
