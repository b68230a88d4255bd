"""Connectors that read all layers of a VLM: X2I's AlignNet."""

from __future__ import annotations

import torch

from ..running.hidden_states import HiddenStates
from ..tokens.seen import written_beside
from ..tokens.tokens import Tokens
from .alignnet import CHUNK, AlignNet
from .connector import Connector, ConnectorOutput, LayerWeights, Readable
from .source_vlms import ALIGNNET, source_vlms_of

_NAMES = {"cnn": "convolution", "scale": "scales", "mean": "mean"}


class AllLayersConnector(Connector):
    """An AlignNet on all layers of a VLM, embeddings included."""

    module: AlignNet
    reads_all_layers = True

    def __init__(self, module: AlignNet, name: str):
        """Takes a module and the name of its file."""
        sources = source_vlms_of(ALIGNNET, module.in_width, module.layers_read, name)
        super().__init__(module, name, sources)

    @property
    def title(self) -> str:
        """What it is, for people."""
        layers = f" of {self.layers_read} layers" if self.layers_read else ""
        return f"{ALIGNNET} ({_NAMES[self.module.form]}{layers})"

    def run_bytes(self, tokens: int) -> int:
        """Estimate of a run's memory: a chunk of all layers comes with a copy for the kernel."""
        chunk = min(tokens, CHUNK + 4) * (self.layers_read or 1) * self.in_width
        return 4 * tokens * (2 * self.in_width + 3 * self.width) + 8 * chunk

    def layer_weights(self, num_layers: int | None = None) -> LayerWeights | None:
        """What the mix takes of each layer; see `Connector.layer_weights`.

        A mean takes the same of all, as many as there are; where that is not known, None.
        """
        values = self.module.layer_weights(num_layers)
        if values is None:
            return None
        meaning = "size of the kernel" if self.module.form == "cnn" else "factor"
        return LayerWeights(values, tuple(range(len(values))), meaning)

    @torch.no_grad()
    def __call__(self, states: Readable) -> ConnectorOutput:
        """Maps all layers; see `Connector.__call__`."""
        device = self.device
        if isinstance(states, HiddenStates):
            self.check_fits(states.width, states.num_layers)
            context, pooled = self.module(
                lambda first, stop: states.stretch(first, stop).to(device), states.n
            )
            tokens = Tokens(context, states.token_map, written_beside(states))
            if states.dropped:
                tokens = tokens.take(range(states.dropped, states.n))
            return ConnectorOutput(tokens, pooled)
        if isinstance(states, torch.Tensor) and states.ndim == 4:
            self.check_fits(states.shape[3], states.shape[1])
            context, pooled = self.module(
                lambda first, stop: states[:, :, first:stop].to(device), states.shape[2]
            )
            return ConnectorOutput(Tokens(context), pooled)
        if isinstance(states, (Tokens, torch.Tensor)):
            raise ValueError(
                f"{self.name} is an {self.title}: it reads all layers of a VLM, not one. Give it "
                "the hidden states of `encode`, without `select_layers`."
            )
        raise TypeError(f"A connector reads hidden states, this is a {type(states).__name__}.")
