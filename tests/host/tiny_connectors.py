"""Tiny connectors of true key names, and tiny VLMs for them, under the names of the real ones."""

from __future__ import annotations

from pathlib import Path

import torch

WIDTH, LAYERS = 64, 5  # of the tiny VLMs; the layers with the embeddings
CONTEXT, POOLED, STREAM = 4096, 768, 128  # FLUX.1's, and the tiny FLUX.1's hidden size

VLMS = {
    "Qwen2VL-Flux": "qwen2_vl",
    "Qwen2.5-VL-7B-Instruct": "qwen2_5_vl",
    "InternVL2_5-4B-hf": "internvl",
    "Qwen2.5-Omni-3B": "qwen2_5_omni",
}
CONNECTOR = "qwen2vl-flux/connector.pt"
EMBEDDER = "qwen2vl-flux/t5_embedder.pt"
ALIGNNET = "x2i/qwen2.5-vl-7b_proj.pt"
OMNI = "qwen2.5-omni-3b-alignnet.safetensors"
TRAINED, Z_IMAGE = "qwen3vl-zimage-projection.safetensors", 2560  # and the width on both sides


def write_connectors(models: Path) -> None:
    """Writes all of them into a models folder, in the containers they are published in."""
    from vlm.connectors.connector_metadata import FORMAT, VERSION
    from vlm.connectors.file import write_state_dict
    from vlm.tiny.folder import write_tiny

    for name, family in VLMS.items():
        write_tiny(models / "VLM" / name, family, WIDTH, LAYERS - 1)
    folder = models / "vlm_connectors"
    for name in (CONNECTOR, ALIGNNET):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    linear = {f"module.{key}": value for key, value in linear_weights().items()}
    torch.save(linear, folder / CONNECTOR)
    torch.save(embedder_weights(), folder / EMBEDDER)
    config = {"in_channels": LAYERS, "input_dim": WIDTH, "use_t5": False, "use_cnn": True}
    torch.save({"config": config, "state_dict": alignnet_weights()}, folder / ALIGNNET)
    facts = {"vlm": "Qwen3-VL-4B-Instruct", "layers": "-2", "target": "Z-Image", "keep": "all"}
    about = {"format": FORMAT, "version": VERSION, **facts}
    write_state_dict(trained_weights(), folder / TRAINED, about)
    facts = {"vlm": "Qwen2.5-Omni-3B", "layers": "auto", "target": "FLUX.1", "keep": "all"}
    write_state_dict(alignnet_weights(), folder / OMNI, about | facts)


def linear_weights() -> dict[str, torch.Tensor]:
    """Qwen2VL-Flux's connector.pt."""
    return {"linear.weight": _some(1, CONTEXT, WIDTH), "linear.bias": _some(2, CONTEXT)}


def embedder_weights() -> dict[str, torch.Tensor]:
    """Qwen2VL-Flux's t5_embedder.pt."""
    return {"weight": _some(3, STREAM, CONTEXT), "bias": _some(4, STREAM)}


def alignnet_weights() -> dict[str, torch.Tensor]:
    """X2I's AlignNet with the convolution."""
    return {
        "conv.weight": _some(5, 1, LAYERS, 5, 5),
        "conv.bias": _some(6, 1),
        "mlp.layernorm.weight": 1 + _some(7, WIDTH),
        "mlp.layernorm.bias": _some(8, WIDTH),
        "mlp.projector.0.weight": _some(9, CONTEXT, WIDTH),
        "mlp.projector.2.weight": _some(10, CONTEXT, CONTEXT),
        "mlp.fc.1.weight": _some(11, POOLED, CONTEXT),
        "mlp.fc.1.bias": _some(12, POOLED),
    }


def trained_weights() -> dict[str, torch.Tensor]:
    """Norm and linear as `python -m vlm train` names them."""
    width = Z_IMAGE
    return {
        "0.weight": 1 + _some(13, width),
        "0.bias": _some(14, width),
        "1.weight": _some(15, width, width),
        "1.bias": _some(16, width),
    }


def _some(seed: int, *shape: int) -> torch.Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values / max(shape[-1], 16) ** 0.5
