"""Tiny CLIPs of Gemma 3 with a small SentencePiece model, as ComfyUI's loader makes them."""

from __future__ import annotations

import io
import types
from typing import Any

import comfy.sd
import comfy.text_encoders.llama as llama
import comfy.text_encoders.lt as lt
import comfy.text_encoders.lumina2 as lumina2
import pytest
import sentencepiece
import torch
from tiny_clips import transformer_of
from tiny_native.weights import fill

LAYERS = 7
WINDOW = 8
SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": LAYERS,
    "num_attention_heads": 2, "num_key_value_heads": 1,
}  # fmt: skip
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 2}  # fmt: skip
# As published: <start_of_turn> is 105, <end_of_turn> 106.
USER_DEFINED = [
    *(f"<unused{number}>" for number in range(101)), "<start_of_turn>", "<end_of_turn>", "\n",
    "\n\n", "<table>", "<start_of_image>", "<end_of_image>",
]  # fmt: skip
KINDS = {
    "gemma3_4b": (lambda: lumina2.te(model_type="gemma3_4b"), lumina2.NTokenizer),
    "gemma3_4b_vision": (lambda: lumina2.te(model_type="gemma3_4b_vision"), lumina2.NTokenizer),
    "gemma3_12b": (lt.gemma3_te, lt.Gemma3_12BTokenizer),
}


def sentencepiece_model() -> torch.Tensor:
    """A serialised model, as it lies in a file of weights: uint8 [bytes]."""
    made = io.BytesIO()
    lines = ["a red house by the sea, über 家", "the user asks, the model answers"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=made, vocab_size=450, model_type="bpe",
        byte_fallback=True, pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>",
        eos_piece="<eos>", bos_piece="<bos>", add_dummy_prefix=False,
        remove_extra_whitespaces=False, normalization_rule_name="identity",
        user_defined_symbols=USER_DEFINED, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return torch.frombuffer(bytearray(made.getvalue()), dtype=torch.uint8)


def tiny_gemma(kind: str, **sizes: int) -> comfy.sd.CLIP:
    """A CLIP in float32 with random weights and windows of WINDOW tokens."""
    make, tokenizer = KINDS[kind]
    pick = types.SimpleNamespace(clip=make(), tokenizer=tokenizer, params={})
    options: dict[str, Any] = {"dtype": torch.float32, f"{kind}_model_config": SIZES | sizes}
    with pytest.MonkeyPatch.context() as patch:
        for name, size in TOWER.items():
            patch.setitem(llama.GEMMA3_VISION_CONFIG, name, size)
        if kind == "gemma3_12b":  # which asks for its sizes under no name
            options["model_name"] = kind
        clip = comfy.sd.CLIP(
            pick, tokenizer_data={"spiece_model": sentencepiece_model()}, model_options=options
        )
    model = transformer_of(clip) if hasattr(clip.cond_stage_model, "clip") else (
        clip.cond_stage_model.transformer
    )  # fmt: skip
    fill(model)
    for layer in model.model.layers:
        layer.sliding_attention = layer.sliding_attention and WINDOW
    return clip
