"""Connectors that read one layer: Qwen2VL-Flux's, or another linear layer or MLP."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..running.hidden_states import HiddenStates
from ..tokens.select import select_layers
from ..tokens.tokens import Tokens
from .chain import Chain
from .connector import Connector, ConnectorOutput, Readable
from .connector_metadata import Trained
from .source_vlms import LINEAR, source_vlms_of


class OneLayerConnector(Connector):
    """Linear layers, norms and scales on one layer of a VLM."""

    module: Chain

    def __init__(
        self, module: Chain, name: str, qwen2vl_flux: bool = False, trained: Trained | None = None
    ):
        """Takes a module.

        Args:
            module: Its weights.
            name: Of its file.
            qwen2vl_flux: It is named as Qwen2VL-Flux's released connector is.
            trained: On what, where its file says it.
        """
        kind = LINEAR if qwen2vl_flux else ""
        super().__init__(module, name, source_vlms_of(kind, module.in_width, None, name))
        self._kind = kind
        self._trained = trained
        self.keep = "image" if qwen2vl_flux else "all"  # Qwen2VL-Flux, model.py
        if trained:
            self.keep = trained.keep

    @property
    def title(self) -> str:
        """What it is, for people."""
        module = self.module
        if self._kind:
            return self._kind + (" with a norm" if module.num_norms else "")
        if not module.num_linear:
            return "scale per dimension"
        return "linear layer" if module.num_linear == 1 else f"MLP of {module.num_linear} layers"

    @property
    def made_for(self) -> str:
        """The model its file names, or those it may have been trained on; "" = not known."""
        return self._trained.vlm if self._trained else super().made_for

    def run_bytes(self, tokens: int) -> int:
        """Estimate of a run's memory; see `Connector.run_bytes`."""
        return 4 * tokens * (2 * self.in_width + 3 * self.width)

    @torch.no_grad()
    def __call__(self, states: Readable) -> ConnectorOutput:
        """Maps one layer; see `Connector.__call__`."""
        if isinstance(states, HiddenStates):
            states = self._take(states)
        if not isinstance(states, Tokens):
            raise TypeError(f"A connector reads Tokens, this is a {type(states).__name__}.")
        self.check_width(states.width)
        context = self.module(states.states.to(self.device))
        return ConnectorOutput(replace(states, states=context))

    def _take(self, states: HiddenStates) -> Tokens:
        """The layers it was trained on; without a word of that, the last one."""
        if self._trained:
            return select_layers(states, self._trained.layers)
        self.check_width(states.width)
        return select_layers(states, -1, final_norm=True)

    def _advice(self) -> str:
        if self._trained:
            layers = self._trained.layers
            return f"It was trained on layers {layers} of {self.made_for}: load that model."
        return super()._advice()
