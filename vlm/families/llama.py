"""Llama 3, 3.1, 3.2 (1B, 3B) and 3.3 Instruct: text only."""

from __future__ import annotations

from typing import Any

from .family import Family, Tiny
from .qwen_tiny import embedding_rows
from .qwen_tiny_tokenizer import SPLIT, make_tokenizer

# As the template of Llama 3.1 and later renders without tools.
CHAT_TEMPLATE = """\
{{- bos_token }}
{%- if date_string is not defined %}
{%- set date_string = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' %}
{%- endif %}
{%- set system = '' %}
{%- if messages[0].role == 'system' %}
{%- set system = messages[0].content | trim %}
{%- set messages = messages[1:] %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\n' }}
{{- 'Today Date: ' + date_string + '\\n\\n' + system + '<|eot_id|>' }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
{{- message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

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


FAMILY = Family(
    title="Llama 3",
    model_type="llama",
    architecture="LlamaForCausalLM",
    chat_template=CHAT_TEMPLATE,
    stop_tokens=("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"),
    pad_tokens=("<|finetune_right_pad_id|>", "<|end_of_text|>"),  # Llama 3.0 has the second
    # The date that the template of Llama 3.1 has by itself. Later ones write today's, and then
    # the same prompt would be other tokens every day.
    chat_settings={"date_string": "26 Jul 2024"},
    tiny=Tiny(
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
    ),
)
