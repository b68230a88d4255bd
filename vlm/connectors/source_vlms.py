"""Who trained which connector: told by the shape of the weights, and by the name of the file."""

from __future__ import annotations

from dataclasses import dataclass

from ..families import FAMILIES


@dataclass(frozen=True)
class SourceVLM:
    """A model that released connectors were trained on.

    Attributes:
        model: Its name.
        family: `model_type` in its config.json.
        kind: What the connector is called.
        width: Width D of its hidden states.
        layers: L of its hidden states, embeddings included; None where one layer is read.
        sign: What the file's name holds where two models share the other numbers; "" = nothing.
    """

    model: str
    family: str
    kind: str
    width: int
    layers: int | None
    sign: str = ""

    @property
    def runs(self) -> bool:
        """Whether this pack runs that model."""
        return self.family in FAMILIES


LINEAR, ALIGNNET = "Qwen2VL-Flux connector", "X2I AlignNet"

# Widths and layers: the models' config.json; which of them have one: X2I's scripts and
# Qwen2VL-Flux's model.py. The more special sign comes first.
SOURCE_VLMS = (
    SourceVLM("Qwen2-VL-7B", "qwen2_vl", LINEAR, 3584, None),
    SourceVLM("MiniCPM-o 2.6", "minicpmo", ALIGNNET, 3584, 29, sign="minicpm"),
    SourceVLM("InternVL2.5-4B", "internvl", ALIGNNET, 2048, 37, sign="internvl"),
    SourceVLM("InternVL2.5-1B", "internvl", ALIGNNET, 896, 25),
    SourceVLM("Qwen2.5-VL-7B", "qwen2_5_vl", ALIGNNET, 3584, 29),
    SourceVLM("Qwen2.5-VL-3B", "qwen2_5_vl", ALIGNNET, 2048, 37),
)


def source_vlms_of(kind: str, width: int, layers: int | None, name: str) -> list[SourceVLM]:
    """The models a connector may have been trained on, the likeliest first.

    Qwen2.5-VL-7B and MiniCPM-o share width and layers, and so do Qwen2.5-VL-3B and InternVL2.5-4B:
    only the file's name tells them apart.

    Args:
        kind: `LINEAR` or `ALIGNNET`.
        width: Width D it reads.
        layers: Layers it reads; None = its weights do not say, any number.
        name: Of the file.
    """
    fitting = [
        vlm
        for vlm in SOURCE_VLMS
        if vlm.kind == kind and vlm.width == width and layers in (None, vlm.layers)
    ]
    named = [vlm for vlm in fitting if vlm.sign and vlm.sign in name.lower()]
    return named or sorted(fitting, key=lambda vlm: bool(vlm.sign))
