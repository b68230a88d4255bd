"""Connectors: trained weights that map a VLM's hidden states to what a diffusion model reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..running.hidden_states import HiddenStates
from ..tokens.select import select_layers
from ..tokens.tokens import Tokens
from .alignnet import CHUNK, AlignNet, read_alignnet
from .chain import Chain, read_chain
from .file import read_state_dict
from .lap import lap_pool
from .lap_blocks import LAP
from .lap_file import read_lap
from .source_vlms import ALIGNNET, LINEAR, SourceVLM, source_vlms_of

POOL = "LAP"
_NAMES = {"cnn": "convolution", "scale": "scales", "mean": "mean"}


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


class Connector:
    """A loaded connector.

    Attributes:
        module: Its weights, in float32; whoever manages memory moves this.
        name: Of its file.
        kind: `LINEAR` (Qwen2VL-Flux), `ALIGNNET` (X2I), `POOL` (UniFusion's LAP), or "" for
            another linear layer or MLP.
        source_vlms: The released models it may have been trained on, the likeliest first.
    """

    def __init__(self, module: Chain | AlignNet | LAP, name: str, kind: str = ""):
        """Takes a module; `load_connector` reads one from a file."""
        self.module = module
        self.name = name
        self.kind = kind
        self.source_vlms: list[SourceVLM] = source_vlms_of(
            kind, module.in_width, module.layers_read, name
        )

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
    def reads_all_layers(self) -> bool:
        """Whether it needs hidden states with all their layers, not one of them."""
        return isinstance(self.module, AlignNet | LAP)

    @property
    def title(self) -> str:
        """What it is, for people."""
        module = self.module
        if isinstance(module, LAP):
            return module.title
        if isinstance(module, AlignNet):
            layers = f" of {module.layers_read} layers" if module.layers_read else ""
            return f"{ALIGNNET} ({_NAMES[module.form]}{layers})"
        if self.kind:
            return self.kind + (" with a norm" if module.num_norms else "")
        if not module.num_linear:
            return "scale per dimension"
        return "linear layer" if module.num_linear == 1 else f"MLP of {module.num_linear} layers"

    @property
    def made_for(self) -> str:
        """The models it may have been trained on; "" where that is not known."""
        if isinstance(self.module, LAP):
            return self.module.origin.vlm
        return " or ".join(vlm.model for vlm in self.source_vlms)

    @property
    def warning(self) -> str:
        """A sentence where no model that this pack runs can feed it; else ""."""
        if not self.source_vlms or any(vlm.runs for vlm in self.source_vlms):
            return ""
        return f"no model family of this pack can feed it: it was made for {self.made_for}"

    def run_bytes(self, tokens: int) -> int:
        """Estimate of a run's memory beside the weights, in bytes.

        Args:
            tokens: N.
        """
        module = self.module
        if isinstance(module, LAP):
            return module.run_bytes(tokens)
        size = 4 * tokens * (2 * module.in_width + 3 * module.width)
        if isinstance(module, AlignNet):  # a chunk of all layers, and its copy for the kernel
            size += 8 * min(tokens, CHUNK + 4) * (module.layers_read or 1) * module.in_width
        return size

    def to(self, device: torch.device | str) -> Connector:
        """Moves its weights; itself."""
        self.module.to(device)
        return self

    @torch.no_grad()
    def __call__(self, states: HiddenStates | Tokens | torch.Tensor) -> ConnectorOutput:
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
        if isinstance(self.module, LAP):
            return self._pooled(states)
        if self.reads_all_layers:
            return self._all_layers(states)
        if isinstance(states, HiddenStates):
            self._check_width(states.width)
            states = select_layers(states, -1, final_norm=True)
        if not isinstance(states, Tokens):
            raise TypeError(f"A connector reads Tokens, this is a {type(states).__name__}.")
        self._check_width(states.width)
        context = self.module(states.states.to(self._device()))
        return ConnectorOutput(Tokens(context, states.token_map))

    def _pooled(self, states: HiddenStates | Tokens | torch.Tensor) -> ConnectorOutput:
        """Through a LAP."""
        if not isinstance(states, HiddenStates):
            raise ValueError(
                f"{self.name} is a {self.title}: it pools several layers of a VLM, not one. "
                "Connect the hidden states of VLM Encode to LAP Pool, without Hidden Layer Select."
            )
        tokens = lap_pool(states, self.module)
        return ConnectorOutput(replace(tokens, states=tokens.states.float()))

    def _all_layers(self, states: HiddenStates | Tokens | torch.Tensor) -> ConnectorOutput:
        device = self._device()
        if isinstance(states, HiddenStates):
            self.check_fits(states.width, states.num_layers)
            context, pooled = self.module(
                lambda first, stop: states.stretch(first, stop).to(device), states.n
            )
            tokens = Tokens(context, states.token_map)
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
                f"{self.name} is an {self.title}: it reads all layers of a VLM, not one. Connect "
                "the hidden states of VLM Encode to Connector Apply, without Hidden Layer Select."
            )
        raise TypeError(f"A connector reads hidden states, this is a {type(states).__name__}.")

    def check_fits(self, width: int, num_layers: int) -> None:
        """Compares with the hidden states of a model.

        Raises:
            ValueError: It reads another width or another number of layers; says both numbers.
        """
        self._check_width(width)
        if self.layers_read not in (None, num_layers):
            raise ValueError(
                f"{self.name} ({self.title}) reads {self.layers_read} layers, embeddings "
                f"included, this VLM has {num_layers}. {self._advice()}"
            )

    def _check_width(self, width: int) -> None:
        if width == self.in_width:
            return
        raise ValueError(
            f"{self.name} ({self.title}) reads {self.in_width} dimensions, these have {width}. "
            f"{self._advice()}"
        )

    def _advice(self) -> str:
        if self.source_vlms:
            return f"It was made for {self.made_for}: load that model on VLM Loader."
        return "Load the VLM that it was trained on, or another connector on VLM Connector Loader."

    def _device(self) -> torch.device:
        return next(self.module.parameters()).device


def load_connector(path: str | Path, device: torch.device | str = "cpu") -> Connector:
    """Loads a connector; architecture and sizes are read from its weights.

    Args:
        path: .safetensors, or .pt, .pth, .bin, which are read as tensors only.
        device: Where it runs; its weights are float32 there.

    Returns:
        Qwen2VL-Flux's linear connector, X2I's AlignNet, UniFusion's LAP, or another linear layer
        or MLP.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A file that cannot be read, or weights that are no connector, or not a whole
            one.
    """
    path = Path(path)
    weights = read_state_dict(path)
    lap = read_lap(weights, path)
    check_values(weights, path.name)
    if lap is not None:
        return Connector(lap, path.name, POOL).to(device)
    align = read_alignnet(weights, path.name)
    if align is not None:
        return Connector(align, path.name, ALIGNNET).to(device)
    chain = read_chain(weights, path.name)
    modules = {key.rpartition(".")[0].rpartition(".")[2] for key in weights}
    qwen2vl_flux = chain.num_linear == 1 and "linear" in modules
    return Connector(chain, path.name, LINEAR if qwen2vl_flux else "").to(device)


def check_values(weights: Mapping[str, torch.Tensor], name: str) -> None:
    """Checks that trained weights are finite floating point numbers.

    Raises:
        ValueError: One is not.
    """
    for key, value in weights.items():
        if not value.is_floating_point():
            raise ValueError(
                f"{name}: {key} is {str(value.dtype).removeprefix('torch.')}, weights are floating "
                "point. Use the file that its publisher released."
            )
        if not bool(torch.isfinite(value.float()).all()):
            raise ValueError(f"{name}: {key} holds NaN or Inf. Download the file again.")
