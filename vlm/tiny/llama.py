"""Toy model of Llama 3, in the layout of the published files."""

from __future__ import annotations

from typing import Any

from .qwen import embedding_rows
from .qwen_tokenizer import SPLIT, make_tokenizer
from .toy import Tiny

# In their order, without the reserved ones.
SPECIALS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
)  # fmt: skip


def tiny_tokenizer() -> dict[str, Any]:
    """Content of tokenizer.json: up to three digits a word, and a first token by itself."""
    content = make_tokenizer(SPECIALS, ())
    content["normalizer"] = None
    split = content["pre_tokenizer"]["pretokenizers"][0]
    split["pattern"] = {"Regex": SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")}
    content["model"]["ignore_merges"] = True
    first = next(one for one in content["added_tokens"] if one["content"] == SPECIALS[0])
    begin = {"SpecialToken": {"id": SPECIALS[0], "type_id": 0}}
    one, two = ({"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB"))
    template = {
        "type": "TemplateProcessing",
        "single": [begin, one],
        "pair": [begin, one, begin, two],
        "special_tokens": {
            SPECIALS[0]: {"id": SPECIALS[0], "ids": [first["id"]], "tokens": [SPECIALS[0]]}
        },
    }
    content["post_processor"] = {
        "type": "Sequence",
        "processors": [content["post_processor"], template],
    }
    return content


def tiny_config(width: int, layers: int, ids: dict[str, int]) -> dict[str, Any]:
    """Content of config.json, as Llama 3.2 1B and 3B have it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float32",
        "vocab_size": embedding_rows(ids),
        "hidden_size": width,
        "intermediate_size": 128,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "initializer_range": 0.02,
        "max_position_embeddings": 131072,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "tie_word_embeddings": True,
        "use_cache": True,
        "bos_token_id": ids["<|begin_of_text|>"],
        "eos_token_id": [ids[name] for name in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")],
    }


TINY = Tiny(
    tiny_config,
    {"language_model.": "model."},
    tokenizer=tiny_tokenizer,
    tokenizer_config={
        "additional_special_tokens": [],
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "model_input_names": ["input_ids", "attention_mask"],
        "pad_token": "<|finetune_right_pad_id|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    },
)
