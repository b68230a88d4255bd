"""Toy models that tell colours apart, in folders as they are downloaded, and coloured pictures."""

import json

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model, PreTrainedTokenizerFast

SIDE = 32
COLOURS = {
    "red": (220, 30, 20),
    "green": (30, 190, 40),
    "blue": (20, 40, 210),
    "yellow": (230, 220, 40),
    "black": (15, 15, 20),
    "white": (240, 240, 235),
}
WORDS = ["<unk>", "<|end|>", "a", "picture", *COLOURS]
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def picture(colour, noise=0, seed=0, size=(SIDE, SIDE)):
    """One colour, with grain."""
    plain = np.full((size[1], size[0], 3), COLOURS[colour], np.float64)
    grain = np.random.default_rng(seed).normal(0, noise, plain.shape) if noise else 0
    return Image.fromarray((plain + grain).clip(0, 255).astype(np.uint8))


def pixels(pictures):
    """What the toys' image processors make of pictures of their size, [B, 3, H, W]."""
    values = np.stack([np.asarray(each, np.float32) for each in pictures])
    return torch.from_numpy((values / 255 - 0.5) / 0.5).permute(0, 3, 1, 2).float()


def write_clip(folder):
    """A random CLIP whose text projection sends the name of a colour to the colour's vector."""
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={
            **SMALL, "vocab_size": len(WORDS), "max_position_embeddings": 8, "eos_token_id": 1,
            "bos_token_id": 0,
        },
        vision_config={**SMALL, "image_size": SIDE, "patch_size": 8},
        projection_dim=16,
    )  # fmt: skip
    model = CLIPModel(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, 0.3)
    model.text_model.embeddings.token_embedding.weight.data.normal_(0, 3)
    tokenizer = _write_tokenizer(folder)
    prompts = tokenizer([f"a {name} picture" for name in COLOURS], return_tensors="pt")
    with torch.no_grad():
        seen = model(**prompts, pixel_values=pixels([picture(name) for name in COLOURS]))
        read = torch.linalg.pinv(seen.text_model_output.last_hidden_state[:, -1].double())
        model.text_projection.weight.copy_((read @ seen.image_embeds.double()).T)
    model.save_pretrained(folder)
    _write_processor(folder, "CLIPImageProcessor")
    return folder


def write_dino(folder):
    """A random DINOv2."""
    torch.manual_seed(0)
    sizes = {key: value for key, value in SMALL.items() if key != "intermediate_size"}
    model = Dinov2Model(Dinov2Config(**sizes, image_size=SIDE, patch_size=8)).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, 0.3)
    model.save_pretrained(folder)
    _write_processor(folder, "BitImageProcessor")
    return folder


def _write_processor(folder, kind):
    side = {"height": SIDE, "width": SIDE}
    settings = {
        "image_processor_type": kind, "size": {"shortest_edge": SIDE}, "crop_size": side,
        "do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True,
        "do_convert_rgb": True, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _write_tokenizer(folder):
    ids = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "$A <|end|>", special_tokens=[("<|end|>", 1)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=8, pad_token="<|end|>", eos_token="<|end|>",
        unk_token="<unk>",
    )  # fmt: skip
    fast.save_pretrained(folder)
    return fast
