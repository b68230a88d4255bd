"""Connectors: trained weights that map a VLM's hidden states to what a diffusion model reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from ..running.hidden_states import HiddenStates
from ..tokens.tokens import Tokens
from .source_vlms import SourceVLM

Readable: TypeAlias = HiddenStates | Tokens | torch.Tensor


@dataclass(frozen=True)
class ConnectorOutput:
    """What a connector gives, in float32.

    Attributes:
        tokens: The context with the token map of what came in.
        pooled: Pooled vector [B, P]; None where the connector has none.
    """

    tokens: Tokens
    pooled: torch.Tensor | None = None

    @property
    def context(self) -> torch.Tensor:
        """[B, N, W]."""
        return self.tokens.states


@dataclass(frozen=True)
class LayerWeights:
    """What a connector takes of each layer.

    Attributes:
        values: [L] float32 on the CPU, one per layer that it reads, in order.
        layers: Their indices, 0 = embeddings; None where that is not known.
        meaning: What a value is.
    """

    values: torch.Tensor
    layers: tuple[int, ...] | None
    meaning: str


class Connector(ABC):
    """A loaded connector; each kind says what it is, what it takes and how it is called.

    Attributes:
        module: Its weights, in float32, with `in_width`, `width`, `pooled` and `layers_read`;
            whoever manages memory moves this.
        name: Of its file.
        source_vlms: The released models it may have been trained on, the likeliest first.
        keep: The tokens it was trained on, as `filter_tokens` takes them.
        reads_all_layers: Whether it needs hidden states with all their layers, not one of them.
    """

    keep = "all"
    reads_all_layers = False

    def __init__(self, module: Any, name: str, source_vlms: list[SourceVLM]):
        """Takes a module; `load_connector` reads one from a file."""
        self.module = module
        self.name = name
        self.source_vlms = source_vlms

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is, for people."""

    @abstractmethod
    def run_bytes(self, tokens: int) -> int:
        """Estimate of a run's memory beside the weights, in bytes.

        Args:
            tokens: N.
        """

    @abstractmethod
    def __call__(self, states: Readable) -> ConnectorOutput:
        """Maps hidden states where its weights are.

        Args:
            states: Hidden states; tokens [B, N, D] for a connector that reads one layer; or, for
                one that reads all, a tensor [B, L, N, D]. Of hidden states one that reads a single
                layer takes the last with its final norm, a LAP pools the layers it was trained on,
                and all drop what the target never sees.

        Returns:
            Context and pooled vector in float32, on the device of the weights.

        Raises:
            ValueError: The width or the number of layers does not fit; tokens for a connector
                that needs all layers.
            TypeError: Something else.
        """

    def layer_weights(self, num_layers: int | None = None) -> LayerWeights | None:
        """What it takes of each layer; None where it reads one layer.

        Args:
            num_layers: L of the hidden states, embeddings included; None = not known.
        """
        return None

    @property
    def in_width(self) -> int:
        """Width D of the hidden states it reads."""
        return self.module.in_width

    @property
    def width(self) -> int:
        """Width W of its context."""
        return self.module.width

    @property
    def pooled(self) -> int:
        """Width P of its pooled vector, 0 = it has none."""
        return self.module.pooled

    @property
    def layers_read(self) -> int | None:
        """L where it reads all layers of a model with that many; None otherwise."""
        return self.module.layers_read

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.module.parameters()).device

    @property
    def made_for(self) -> str:
        """The models it may have been trained on; "" where that is not known."""
        return " or ".join(vlm.model for vlm in self.source_vlms)

    @property
    def warning(self) -> str:
        """A sentence where no model that this pack runs can feed it; else ""."""
        if not self.source_vlms or any(vlm.runs for vlm in self.source_vlms):
            return ""
        return f"no model family of this pack can feed it: it was made for {self.made_for}"

    def to(self, device: torch.device | str) -> Connector:
        """Moves its weights; itself."""
        self.module.to(device)
        return self

    def check_fits(self, width: int, num_layers: int) -> None:
        """Compares with the hidden states of a model.

        Raises:
            ValueError: It reads another width or another number of layers; says both numbers.
        """
        self.check_width(width)
        if self.layers_read not in (None, num_layers):
            raise ValueError(
                f"{self.name} ({self.title}) reads {self.layers_read} layers, embeddings "
                f"included, this VLM has {num_layers}. {self._advice()}"
            )

    def check_width(self, width: int) -> None:
        """Compares with the width of hidden states.

        Raises:
            ValueError: It reads another; says both numbers.
        """
        if width == self.in_width:
            return
        raise ValueError(
            f"{self.name} ({self.title}) reads {self.in_width} dimensions, these have {width}. "
            f"{self._advice()}"
        )

    def _advice(self) -> str:
        if self.source_vlms:
            return f"It was made for {self.made_for}: load that model with `load`."
        return "Load the VLM that it was trained on, or another connector with `load_connector`."
