"""Toy model of Gemma 3, in the layout of the published files."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from .qwen import embedding_rows
from .qwen_tokenizer import CORPUS, learn_merges, make_tokenizer
from .toy import Tiny

SPACE = "▁"
# In the published order, with five of the 6242 unused ones. Blank space and tags are added tokens
# too, but not special ones.
SPECIALS = (
    "<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]",
    *(f"<unused{i}>" for i in range(5)), "<start_of_turn>", "<end_of_turn>",
)  # fmt: skip
BLANKS = (*("\n" * i for i in range(1, 32)), *(SPACE * i for i in range(2, 32)), "\t")
TAGS = tuple(
    f"<{end}{name}>"
    for end in ("", "/")
    for name in ("table", "caption", "tr", "td", "ul", "ol", "li", "h1", "strong", "em", "b")
)
PICTURE = ("<start_of_image>", "<end_of_image>", "<image_soft_token>")
MERGES = 640
VISION = 32  # width of the vision tower, 2 heads of 16
WINDOW = 256  # a quarter of the published one, and the least: a picture's tokens see each other


def tiny_tokenizer() -> dict[str, Any]:
    """Content of tokenizer.json: BPE of letters, spaces as "▁", unknown letters as bytes."""
    often = [letter for letter, times in Counter(_spell(CORPUS)).items() if times > 2]
    letters = sorted(set(often).difference(BLANKS))
    learnt = learn_merges(CORPUS, MERGES, _spell)
    runs = [(SPACE * i, SPACE * i) for i in (1, 2, 4, 8)]
    merges = runs + [
        pair for pair in learnt
        if set("".join(pair)) <= set(letters) and not "".join(pair).startswith(SPACE * 2)
    ]  # fmt: skip
    numbers = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = [*SPECIALS, *BLANKS, *TAGS, *numbers, *(a + b for a, b in merges), *letters, *PICTURE]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    content = make_tokenizer((), ())
    content["added_tokens"] = _added(vocab)
    content["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}
    content["pre_tokenizer"] = {**split, "invert": False}
    content["post_processor"] = _begins_with("<bos>", vocab["<bos>"])
    spaces = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    content["decoder"] = {
        "type": "Sequence",
        "decoders": [spaces, {"type": "ByteFallback"}, {"type": "Fuse"}],
    }
    content["model"] |= {
        "unk_token": "<unk>",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "vocab": vocab,
        "merges": [list(pair) for pair in merges],
    }
    return content


def _spell(word: str) -> list[str]:
    return list(word.replace(" ", SPACE))


def _added(vocab: dict[str, int]) -> list[dict[str, Any]]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    names = {name: True for name in (*SPECIALS, *PICTURE)} | {name: False for name in BLANKS + TAGS}
    return sorted(
        ({"id": vocab[name], "content": name, **plain, "special": special}
         for name, special in names.items()),
        key=lambda token: token["id"],
    )  # fmt: skip


def _begins_with(token: str, number: int) -> dict[str, Any]:
    begin = {"SpecialToken": {"id": token, "type_id": 0}}
    one, two = ({"Sequence": {"id": name, "type_id": kind}} for kind, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [begin, one],
        "pair": [begin, one, begin, two],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }


def text_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json of the language model."""
    return {
        "model_type": "gemma3_text",
        "hidden_size": width,
        "intermediate_size": 128,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": WINDOW,
        "vocab_size": embedding_rows(ids),
    } | ends(ids)


def ends(ids: dict[str, int]) -> dict[str, Any]:
    """The tokens that begin, end and pad a text."""
    stops = [ids["<eos>"], ids["<end_of_turn>"]]
    return {"bos_token_id": ids["<bos>"], "eos_token_id": stops, "pad_token_id": ids["<pad>"]}


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json, as the published ones have it.

    Patches are twice as wide as the published ones: 1024 of them a picture, not 4096.
    """
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "torch_dtype": "float32",
        "boi_token_index": ids["<start_of_image>"],
        "eoi_token_index": ids["<end_of_image>"],
        "image_token_index": ids["<image_soft_token>"],
        "mm_tokens_per_image": 256,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "text_config": text_config(width, layers, ids),
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": VISION,
            "image_size": 896,
            "intermediate_size": 2 * VISION,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "patch_size": 28,
            "vision_use_head": False,
        },
    } | {"eos_token_id": ends(ids)["eos_token_id"]}


def norm(name: str) -> float:
    """The language model's norms add 1 to their weights.

    Those behind attention and feed-forward set what each adds to the stream: as in the other toy
    models, attention less, else all tokens become alike.
    """
    if name.startswith("vision_tower."):
        return 1.0
    return -0.6 if name.endswith(".post_attention_layernorm.weight") else 0.0


PREPROCESSOR = {
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_pan_and_scan": None,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5] * 3,
    "image_processor_type": "Gemma3ImageProcessor",
    "image_seq_length": 256,
    "image_std": [0.5] * 3,
    "pan_and_scan_max_num_crops": None,
    "pan_and_scan_min_crop_size": None,
    "pan_and_scan_min_ratio_to_activate": None,
    "processor_class": "Gemma3Processor",
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"height": 896, "width": 896},
}
TOKENIZER = {
    "add_bos_token": True,
    "add_eos_token": False,
    "additional_special_tokens": [],
    "boi_token": PICTURE[0],
    "bos_token": "<bos>",
    "eoi_token": PICTURE[1],
    "eos_token": "<eos>",
    "extra_special_tokens": {
        "boi_token": PICTURE[0],
        "eoi_token": PICTURE[1],
        "image_token": PICTURE[2],
    },
    "image_token": PICTURE[2],
    "pad_token": "<pad>",
    "spaces_between_special_tokens": False,
    "tokenizer_class": "GemmaTokenizer",
    "unk_token": "<unk>",
}
TINY = Tiny(
    tiny_config,
    {
        "language_model.": "language_model.model.",
        "vision_tower.": "vision_tower.vision_model.",
        "multi_modal_projector.": "multi_modal_projector.",
    },
    files={
        "preprocessor_config.json": PREPROCESSOR,
        "processor_config.json": {"image_seq_length": 256, "processor_class": "Gemma3Processor"},
    },
    tokenizer=tiny_tokenizer,
    tokenizer_config=TOKENIZER,
    norm=norm,
    embed_scale=math.sqrt,
)
