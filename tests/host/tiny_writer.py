"""A tiny model that answers: a wide random one only repeats the last token of its prompt."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

STOPS = ("<|im_end|>", "<|endoftext|>")
STEP = 101  # from one written token's id to the next one's


def let_it_write(folder: Path) -> Path:
    """Gives a Qwen3-VL folder of `write_tiny` an LM head of its own, under which it writes words.

    The stream after a token looks much like the token's embedding, so a head of the embeddings
    moved by STEP rows continues token i with token i + STEP; those that end answers are left out.
    """
    file, config = folder / "model.safetensors", folder / "config.json"
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    weights = {name: tensor.clone() for name, tensor in load_file(file).items()}
    head = torch.roll(weights["model.language_model.embed_tokens.weight"], STEP, dims=0)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    head[[token["id"] for token in tokenizer["added_tokens"] if token["content"] in STOPS]] = 0
    save_file(weights | {"lm_head.weight": head}, file, metadata)
    settings = json.loads(config.read_text(encoding="utf-8"))
    for part in (settings, settings["text_config"]):
        part["tie_word_embeddings"] = False
    config.write_text(json.dumps(settings), encoding="utf-8")
    return folder
