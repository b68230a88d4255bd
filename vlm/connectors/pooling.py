"""Connectors that pool several layers of a VLM: UniFusion's LAP."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..running.hidden_states import HiddenStates
from .connector import Connector, ConnectorOutput, LayerWeights, Readable
from .lap import every_third, lap_pool
from .lap_blocks import LAP


class PoolingConnector(Connector):
    """A LAP on the layers that it was trained on."""

    module: LAP
    reads_all_layers = True

    def __init__(self, module: LAP, name: str):
        """Takes a module and the name of its file."""
        super().__init__(module, name, [])

    @property
    def title(self) -> str:
        """What it is, for people."""
        return self.module.title

    @property
    def made_for(self) -> str:
        """The model its file names; "" where that is not known."""
        return self.module.origin.vlm

    def run_bytes(self, tokens: int) -> int:
        """Estimate of a run's memory; see `Connector.run_bytes`."""
        return self.module.run_bytes(tokens)

    def layer_weights(self, num_layers: int | None = None) -> LayerWeights:
        """The pooling weights; see `Connector.layer_weights`."""
        values = self.module.projector.weight[0].detach().float().cpu()
        layers = self.module.origin.layers
        if layers is None and num_layers is not None:
            layers = every_third(num_layers)
        if layers is not None and len(layers) != len(values):
            layers = None
        return LayerWeights(values, layers, "pooling weight")

    @torch.no_grad()
    def __call__(self, states: Readable) -> ConnectorOutput:
        """Pools; see `Connector.__call__`."""
        if not isinstance(states, HiddenStates):
            raise ValueError(
                f"{self.name} is a {self.title}: it pools several layers of a VLM, not one. "
                "Give the hidden states of `encode` to `lap_pool`, without `select_layers`."
            )
        tokens = lap_pool(states, self.module)
        return ConnectorOutput(replace(tokens, states=tokens.states.float()))
