"""Built-in tiny models: a random VLM as a complete Hugging Face folder, made in about a second.

They have the families' real structure (M-RoPE, DeepStack, window attention, special tokens, chat
template) at toy size, so that a workflow, a test or a first look needs no download.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .families import FAMILIES as KNOWN
from .tiny_tokenizer import make_tokenizer, make_tokenizer_config
from .tiny_weights import draw, text_shapes, vision_shapes
from .whole_file import write_whole

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
MARK = "vlm_tiny"  # key in the weight file's metadata: this folder may be overwritten
VISION = 32  # width of the vision tower, 2 heads of 16
_CLASS = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}


def _text_config(family: str, width: int, layers: int, ids: dict[str, int]) -> dict:
    rows = -(-(max(ids.values()) + 1) // 64) * 64
    text = {
        "vocab_size": rows,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "use_cache": True,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
    }
    return text | (_QWEN3_TEXT if family == "qwen3_vl" else _qwen2_text(family, width, layers))


_QWEN3_TEXT = {
    "model_type": "qwen3_vl_text",
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "attention_bias": False,
    "rope_theta": 5000000.0,
    "rope_scaling": {
        "rope_type": "default",
        "mrope_section": [4, 2, 2],
        "mrope_interleaved": True,
    },
    "tie_word_embeddings": True,
}


def _qwen2_text(family: str, width: int, layers: int) -> dict:
    head_dim = _head_dim(family, width)
    heads = width // head_dim
    sections = [head_dim // 8, 3 * head_dim // 16, 3 * head_dim // 16]
    return {
        "num_attention_heads": heads,
        "num_key_value_heads": 1 if heads % 2 else 2,
        "intermediate_size": 128,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": sections},
        "use_sliding_window": False,
        "sliding_window": 32768,
        "max_window_layers": layers,
        "tie_word_embeddings": False,
    }


def _head_dim(family: str, width: int) -> int:
    # Qwen2-VL's heads fill the width: many heads of 16 would be slow when the width is a real one
    return 128 if family != "qwen3_vl" and width >= 1024 else 16


def _vision_config(family: str, width: int, layers: int) -> dict:
    common = {"depth": 4, "num_heads": 2, "spatial_merge_size": 2, "temporal_patch_size": 2}
    if family == "qwen2_vl":
        own = {"embed_dim": VISION, "hidden_size": width, "mlp_ratio": 2, "patch_size": 14}
        return common | own | {"model_type": family, "hidden_act": "quick_gelu", "in_chans": 3}
    common |= {"hidden_size": VISION, "intermediate_size": 2 * VISION, "out_hidden_size": width}
    if family == "qwen2_5_vl":
        windows = {"window_size": 112, "fullatt_block_indexes": [1, 3], "tokens_per_second": 2}
        own = {"patch_size": 14, "hidden_act": "silu", "in_chans": 3}
        return common | own | windows | {"model_type": family}
    return common | {
        "model_type": family,
        "patch_size": 16,
        "in_channels": 3,
        "hidden_act": "gelu_pytorch_tanh",
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": list(range(min(3, layers))),
    }


def _config(family: str, width: int, layers: int, ids: dict[str, int]) -> dict:
    text = _text_config(family, width, layers, ids)
    nested = {"text_config": text} if family == "qwen3_vl" else text
    return {
        "architectures": [f"{_CLASS[family]}ForConditionalGeneration"],
        "model_type": family,
        "torch_dtype": "float32",
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": text["tie_word_embeddings"],
        **nested,
        "vision_config": _vision_config(family, width, layers),
    }


def _preprocessors(family: str) -> tuple[dict, dict]:
    """preprocessor_config.json and video_preprocessor_config.json with the published numbers."""
    processor = {"processor_class": f"{_CLASS[family]}Processor"}
    if family == "qwen3_vl":
        look = {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        look |= {"temporal_patch_size": 2, "merge_size": 2} | processor
        image = {"size": {"longest_edge": 16777216, "shortest_edge": 65536}}
        video = {"size": {"longest_edge": 25165824, "shortest_edge": 4096}}
        return (
            look | image | {"image_processor_type": "Qwen2VLImageProcessorFast"},
            look | video | {"video_processor_type": "Qwen3VLVideoProcessor"},
        )
    look = {
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "min_pixels": 3136,
        "max_pixels": 12845056,
    } | processor
    video = {"min_pixels": 128 * 28 * 28, "max_pixels": 768 * 28 * 28}
    return (
        look | {"image_processor_type": "Qwen2VLImageProcessor"},
        look | video | {"video_processor_type": "Qwen2VLVideoProcessor"},
    )


def _check(family: str, width: int, layers: int) -> None:
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ValueError(f"There is no tiny model of the family {family!r}. Use one of: {known}.")
    step = _head_dim(family, width)
    if width < 16 or width % step:
        raise ValueError(
            f"A tiny {family} model cannot be {width} wide; expected a multiple of {step}. "
            f"Try {max(step, round(width / step) * step)}."
        )
    if layers < 1:
        raise ValueError(f"A tiny model needs at least 1 decoder layer, got {layers}.")


def is_tiny(folder: str | Path) -> bool:
    """Whether a folder holds a model that `write_tiny` made (its weight file says so)."""
    weights = Path(folder) / "model.safetensors"
    try:
        with safe_open(weights, framework="pt") as file:
            return MARK in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def _state_dict(family: str, config: dict, width: int) -> dict:
    qwen3 = family == "qwen3_vl"
    text = config["text_config"] if qwen3 else config
    prefix = "model.language_model" if qwen3 else "model"
    shapes = text_shapes(prefix, text, _head_dim(family, width), qwen3)
    shapes |= vision_shapes(family, config["vision_config"], width)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (text["vocab_size"], width)
    return {name: draw(name, shape) for name, shape in shapes.items()}


def _check_folder(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not is_tiny(out))):
        raise ValueError(
            f"{out} already holds something that is not a built-in tiny model; "
            "nothing was written. Name an empty or a new folder."
        )


def _contents(family: str, tokenizer: dict, config: dict) -> dict[str, dict]:
    """The JSON files of the folder by name."""
    template, processor = KNOWN[family].chat_template, f"{_CLASS[family]}Processor"
    image, video = _preprocessors(family)
    return {
        "config.json": config,
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": make_tokenizer_config(tokenizer, template, processor),
        "chat_template.json": {"chat_template": template},  # where the family's processor looks
        "preprocessor_config.json": image,
        "video_preprocessor_config.json": video,
    }


def write_tiny(
    out: str | Path, family: str = "qwen3_vl", width: int = 64, layers: int = 36
) -> Path:
    """Writes a tiny random model as a complete Hugging Face folder: weights float32, JSON, UTF-8.

    Every parameter comes from a generator seeded by its name in the published checkpoint layout:
    the same bits on every version of torch and transformers, and a model with fewer layers equals
    the first layers of a deeper one. Only the token stream is as wide as asked: Qwen3-VL always
    has 4 heads of 16 and an inner width of 128, so that 2560 or 4096 wide stays small; Qwen2-VL
    and Qwen2.5-VL, whose heads must fill the width, have heads of 16 (of 128 from 1024 on).

    Args:
        out: folder to write; made if it is missing.
        family: `qwen2_vl`, `qwen2_5_vl` or `qwen3_vl`.
        width: width D of the language model's hidden states; a multiple of 16 (Qwen2-VL and
            Qwen2.5-VL: of 128 from 1024 on).
        layers: number of decoder layers, at least 1.

    Returns:
        The folder, now with the `FILES`.

    Raises:
        ValueError: unknown family, a width or layer count that cannot be, or a folder that holds
            something else than a tiny model.
    """
    out = Path(out)
    _check(family, width, layers)
    _check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    config = _config(family, width, layers, ids)
    # Weights first: they carry the mark that lets an interrupted write be repeated.
    metadata = {"format": "pt", MARK: f"{family} width {width} layers {layers}"}
    write_whole(out / "model.safetensors", save(_state_dict(family, config, width), metadata))
    for name, content in _contents(family, tokenizer, config).items():
        text = json.dumps(content, ensure_ascii=False, indent=2)
        (out / name).write_text(text + "\n", encoding="utf-8")
    return out
