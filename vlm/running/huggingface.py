"""A VLM of transformers as a backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..families import Family
from ..families.layer_cache import LayerCache
from ..quoted import reason
from ..weights.fp8 import ScaledEmbedding, ScaledLinear, dequantise
from ..weights.lm_head import LMHead
from .backbone import AUDIO, TEXT, VISION, Backbone
from .decoder_layer import DISAGREEMENTS, CallError, Places, call_layer
from .left_pads import blank_pads


@dataclass(frozen=True)
class _Rotary:
    """A rotary embedding as the family's layers take it, and the positions [.., S] it is of."""

    embedding: Any
    positions: torch.Tensor


@dataclass(frozen=True)
class _Mask:
    """A mask as the family's layers take it.

    Attributes:
        own: The mask.
        past: Tokens before those that run.
        pads: Pad tokens in front.
    """

    own: Any
    past: int
    pads: int


class Tower(torch.nn.Module):
    """A tower as something that can be moved on its own.

    Attributes:
        tower: It; several modules are one.
        device: Where it is; set by who moves it.
    """

    def __init__(self, tower: torch.nn.Module):
        """Holds the tower."""
        super().__init__()
        self.tower = tower
        self.device = next(tower.parameters()).device


class VisionTower(Tower):
    """What sees, by the name that hosts list it under."""


class AudioTower(Tower):
    """What hears, likewise."""


class LanguageModel(torch.nn.Module):
    """Embeddings, decoder layers and final norm as something that can be moved on its own.

    Attributes:
        device: Where its layers run; set by who moves it.
    """

    def __init__(self, text: torch.nn.Module):
        """Holds the language model."""
        super().__init__()
        self.text = text
        self.device = next(text.parameters()).device


class HuggingFaceBackbone(Backbone, torch.nn.Module):
    """A base model of transformers, in eval mode.

    Attributes:
        parts: The towers and the language model by their name, for who moves them.
        lm_head: The LM head, unread; None = the embeddings are the LM head as well.
    """

    def __init__(self, model: torch.nn.Module, family: Family, lm_head: LMHead | None = None):
        """Wraps a base model, which its family may change."""
        super().__init__()
        self.lm_head = lm_head
        self.model = model
        self.family = family
        # In a dict: registered, their weights would count twice.
        self.parts: dict[str, torch.nn.Module] = {}
        if family.vision is not None:
            family.vision.prepare(model)
            self.parts[VISION] = VisionTower(_tower(model, family.vision.modules))
        if family.audio is not None:
            self.parts[AUDIO] = AudioTower(_tower(model, family.audio.modules))
        self.parts[TEXT] = LanguageModel(self.text)
        family.decoder.prepare(self.text)
        self.num_decoder_layers = len(self.text.layers)
        self.width = self.text.norm.weight.shape[0]
        self.vocabulary = self.text.embed_tokens.num_embeddings
        self.num_deepstack = len(getattr(self.visual, "deepstack_visual_indexes", ()))

    @property
    def text(self) -> torch.nn.Module:
        """The language model."""
        return self.model.get_submodule(self.family.language)

    @property
    def visual(self) -> Any:
        """The vision tower; several modules that see are one."""
        return self.parts[VISION].tower if VISION in self.parts else None

    @property
    def hearing(self) -> Any:
        """The audio tower, likewise."""
        return self.parts[AUDIO].tower if AUDIO in self.parts else None

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the residual stream, which is that of the norms."""
        return self.text.norm.weight.dtype

    @property
    def vision_config(self) -> Any:
        """The part of config.json that the family's `video_time_step` reads."""
        vision = self.family.vision
        return None if vision is None else vision.settings(self.model.config)

    def device_of(self, part: str) -> torch.device:
        """Where a part runs now."""
        return self.parts[part].device

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token embeddings, looked up where the table lies: it need not move for a few rows."""
        table = self.text.embed_tokens
        return table(ids.to(table.weight.device)).to(self.device_of(TEXT))

    def encode_vision(
        self, pixels: torch.Tensor, grid: tuple[int, ...]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Runs the vision tower; see `Backbone.encode_vision`."""
        if self.family.vision is None:
            raise ValueError(
                f"A {self.family.title} has no vision tower, and pictures were given. Leave them "
                "out, or load a model that sees."
            )
        pixels = pixels.to(self.device_of(VISION), self.dtype)
        return self.family.vision.features(self.model, pixels, grid)

    def encode_audio(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Runs the audio tower; see `Backbone.encode_audio`."""
        if self.family.audio is None:
            return super().encode_audio(spectrum)
        spectrum = spectrum.to(self.device_of(AUDIO), self.dtype)
        return self.family.audio.features(self.model, spectrum)

    def rotary(self, hidden: torch.Tensor, positions: torch.Tensor) -> Any:
        """Rotary embedding; see `Backbone.rotary`."""
        decoder = self.family.decoder
        try:
            embedding = decoder.rotary(self.text, hidden, positions)
        except DISAGREEMENTS as error:
            raise CallError(f"{type(error).__name__}: {reason(error, 300)}") from error
        return _Rotary(embedding, decoder.axes(positions))

    def attention_mask(
        self, allowed: torch.Tensor | None, hidden: torch.Tensor, past: int, pads: int = 0
    ) -> Any:
        """As the family's decoder takes it; see `Backbone.attention_mask`."""
        return _Mask(self.family.decoder.mask(self.text, allowed, hidden, past), past, pads)

    def run_layer(
        self,
        layer: int,
        hidden: torch.Tensor,
        rotary: _Rotary,
        mask: _Mask,
        cache: LayerCache | None,
    ) -> torch.Tensor:
        """Runs one decoder layer; see `Backbone.run_layer`."""
        arguments = self.family.decoder.arguments(self.text, layer, rotary.embedding, mask.own)
        places = Places(mask.past, rotary.positions)
        one = self.text.layers[layer]
        with blank_pads([one], mask.pads):
            return call_layer(one, hidden, cache, places, arguments)

    def norm(self, hidden: torch.Tensor) -> torch.Tensor:
        """The final norm."""
        return self.text.norm(hidden)

    def head(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The LM head; see `Backbone.head`."""
        table = self.text.embed_tokens
        if self.lm_head is not None:
            weight = self.lm_head.weight(self.vocabulary, self.width, self.dtype)
        elif isinstance(table, ScaledEmbedding):
            weight = dequantise(table.weight, table.scale, self.dtype)
        else:
            weight = table.weight
        weight = weight.to(self.device_of(TEXT), self.dtype)
        return lambda hidden: torch.nn.functional.linear(hidden, weight)[0, -1]

    def leave_files(self) -> None:
        """Copies its weights, and reads an LM head of its own, into memory: for files that go."""
        for weight in self.parameters():  # they may be pages of the files
            weight.data = weight.data.clone()
        if self.lm_head is not None:
            self.lm_head.keep(self.vocabulary, self.width, self.dtype)

    @property
    def key_width(self) -> int:
        """Width of one token's keys, all heads together."""
        widths = (getattr(one, "self_attn", None) for one in self.text.layers)
        return max((one.k_proj.out_features for one in widths if one is not None), default=0)

    def run_bytes(self, part: str, tokens: int, patches: int, frames: int = 0) -> int:
        """Estimate of a run's memory; see `Backbone.run_bytes`."""
        needed = super().run_bytes(part, tokens, patches, frames)
        if part != TEXT:
            return needed
        own = self.family.decoder.layer_bytes(self.text, tokens, self.dtype.itemsize)
        return max(needed, own + self.converted_bytes(part))

    def converted_bytes(self, part: str) -> int:
        """Bytes of the largest fp8 weight of a part in the residual stream's dtype."""
        layers = {VISION: self.visual, AUDIO: self.hearing, TEXT: self.text}[part].modules()
        sizes = (layer.weight.numel() for layer in layers if isinstance(layer, ScaledLinear))
        return max(sizes, default=0) * self.dtype.itemsize


def _tower(model: torch.nn.Module, names: tuple[str, ...]) -> torch.nn.Module:
    """Some modules of a base model as one."""
    modules = {name: getattr(model, name) for name in names}
    return next(iter(modules.values())) if len(modules) == 1 else torch.nn.ModuleDict(modules)
