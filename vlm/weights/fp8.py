"""Weights stored as 8-bit floats, with one scale per tensor or none: read, and run.

A weight stays 8 bits wide in memory. For the moment of a layer's call it becomes a tensor of the
residual stream's dtype, and is multiplied by its scale there: that is the dequantised weight to the
bit, so the result is that of the dequantised model, and nothing can overflow that would not there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import torch

from ..quoted import told
from .safetensors_header import Entry

DTYPES = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
_FORMATS = ("float8_e4m3fn", "float8_e5m2")
_WEIGHT_SCALES = (".scale_weight", ".weight_scale")
# The activations stay in the residual stream's dtype, so the scale they were measured for is not
# needed.
_INPUT_SCALES = (".scale_input", ".input_scale")
_MARK = "scaled_fp8"  # a tensor of this name: every linear layer that is fp8 has a scale
_LAYER_MARK = ".comfy_quant"
_METADATA = "_quantization_metadata"
_OTHER_MARKS = {
    ".weight_scale_2": "nvfp4",
    ".weight_scale_inv": "block-wise fp8",
    ".weight_s_rel": "w4a8",
    ".pre_quant_scale": "a smoothed quantisation",
    ".quant_map": "bitsandbytes",
    ".absmax": "bitsandbytes",
    ".qweight": "GPTQ or AWQ",
}


def is_mark(name: str) -> bool:
    """Whether a tensor belongs to the storage of another one rather than to the model."""
    return name.split(".")[-1] == _MARK or name.endswith(
        (*_WEIGHT_SCALES, *_INPUT_SCALES, _LAYER_MARK, *_OTHER_MARKS)
    )


class Quantisation:
    """How a checkpoint stores its weights, read from its names and markers.

    Two forms of scaled fp8 are read: a tensor `scaled_fp8` with `X.scale_weight`, and
    `X.weight_scale` with `X.comfy_quant` or `_quantization_metadata`.
    Source: convert_old_quants in ComfyUI's comfy/utils.py, which reads the same.

    Attributes:
        scales: Name of the tensor that holds the scale, by the layer's name.
        everywhere: Every fp8 weight of a linear layer must have a scale.
        layers: Layers that are marked as scaled one by one.
    """

    def __init__(self, where: str, names: list[str], metadata: Mapping[str, str]):
        """Reads the markers; those that are tensors go through `read_layer_mark`.

        Args:
            where: What messages call the checkpoint.
            names: Of all its tensors, as in the files.
            metadata: Of its headers.

        Raises:
            ValueError: A quantisation that is not run here.
        """
        self.where = where
        self.scales = {
            name.removesuffix(suffix): name
            for name in names
            for suffix in _WEIGHT_SCALES
            if name.endswith(suffix)
        }
        self.everywhere = any(name.split(".")[-1] == _MARK for name in names)
        self.layers: set[str] = set()
        for name in names:
            for suffix, what in _OTHER_MARKS.items():
                if name.endswith(suffix):
                    raise self.refusal(name.removesuffix(suffix), what)
        if _METADATA in metadata:
            self._read_metadata(metadata[_METADATA])

    def _read_metadata(self, text: str) -> None:
        try:
            formats = {
                layer: settings.get("format")
                for layer, settings in json.loads(text)["layers"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.where} has {_METADATA} in its header that cannot be read "
                f"({told(error, 300)}). Download it again."
            ) from error
        for layer, kind in formats.items():
            self._mark(layer, kind)

    def read_layer_mark(self, name: str, content: torch.Tensor) -> None:
        """Reads `X.comfy_quant`: the bytes of a JSON object.

        Raises:
            ValueError: Not JSON, or a quantisation that is not run here.
        """
        try:
            kind = json.loads(bytes(content.tolist()))["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"The tensor {name} in {self.where} cannot be read ({told(error, 300)}). "
                "Download the file again."
            ) from error
        self._mark(name.removesuffix(_LAYER_MARK), kind)

    def _mark(self, layer: str, kind: str | None) -> None:
        if kind not in _FORMATS:
            raise self.refusal(layer, str(kind))
        self.layers.add(layer)

    def refusal(self, name: str, what: str) -> ValueError:
        """The error for a quantisation that this pack does not run."""
        return ValueError(
            f"{self.where} stores {name} as {what}, which is not read here; read are "
            "float32, float16, bfloat16 and fp8 with one scale per tensor. ComfyUI's own loader "
            "reads more: there choose `dtype` auto, or Load CLIP with VLM From CLIP."
        )

    def scale_name(self, layer: str, entry: Entry, linear: bool) -> str | None:
        """The tensor with a layer's scale; None for a plain cast to fp8.

        Args:
            layer: Its name in the file.
            entry: Of its weight.
            linear: Whether it is a linear layer; only those are scaled everywhere.

        Raises:
            ValueError: Marked as scaled, but the scale is missing.
        """
        if entry.dtype not in DTYPES:
            return None
        name = self.scales.get(layer)
        if name is None and (layer in self.layers or (self.everywhere and linear)):
            raise ValueError(
                f"{self.where} is marked as scaled fp8, but {layer}.weight has no scale: neither "
                f"{layer}.scale_weight nor {layer}.weight_scale is there. The file was cut or "
                "converted wrongly; download it again."
            )
        return name

    def scale_of(self, name: str, content: torch.Tensor) -> float:
        """The number in a scale tensor.

        Raises:
            ValueError: Not one positive number.
        """
        if content.numel() != 1:
            raise self.refusal(name, f"fp8 with {content.numel()} scales")
        scale = content.float().item()
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(
                f"The scale {name} in {self.where} is {scale}, expected a positive number. "
                "Download the file again."
            )
        return scale


class ScaledLinear(torch.nn.Linear):
    """A linear layer whose weight is fp8.

    It is a torch.nn.Linear with a plain `weight`, so that whoever moves or casts layers can take
    it for one; the scale is a number, which needs no moving.

    Attributes:
        scale: The weight is worth this times its fp8 values.
    """

    scale: float

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., in] to [..., out], in the dtype of `hidden`."""
        return torch.nn.functional.linear(
            hidden, dequantise(self.weight, self.scale, hidden.dtype), self.bias
        )


class ScaledEmbedding(torch.nn.Embedding):
    """An embedding table that is fp8.

    Attributes:
        scale: The table is worth this times its fp8 values.
        dtype: Of what it gives.
    """

    scale: float
    dtype: torch.dtype

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows of the table: int64 [...] to [..., D]."""
        return dequantise(super().forward(ids), self.scale, self.dtype)


def dequantise(stored: torch.Tensor, scale: float, dtype: torch.dtype) -> torch.Tensor:
    """A new tensor of `dtype`: fp8 values times their scale, rounded once."""
    values = stored.to(dtype)  # exact: fp8 values are values of every wider float
    return values if scale == 1.0 else values.mul_(scale)


def can_stay(layer: torch.nn.Module, name: str) -> bool:
    """Whether a layer's weight can stay fp8; the others are few and small, and are converted.

    Args:
        layer: The layer.
        name: Of its weight, in transformers' base model.
    """
    if name.endswith("embed_tokens.weight"):
        return type(layer) is torch.nn.Embedding  # Gemma's also scales what it gives
    return type(layer) is torch.nn.Linear


def keep(layer: torch.nn.Module, scale: float, dtype: torch.dtype) -> None:
    """Makes a layer one that runs on its fp8 weight, in place.

    Args:
        layer: A Linear or an Embedding for which `can_stay` holds.
        scale: Of its weight.
        dtype: Of the residual stream.
    """
    if isinstance(layer, torch.nn.Embedding):
        layer.__class__, layer.dtype = ScaledEmbedding, dtype
    else:
        layer.__class__ = ScaledLinear
    layer.scale = scale
