"""The connector in training: its weights as they are learnt, and as its file holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

from ..connectors.alignnet import AlignNet
from ..connectors.chain import Chain
from ..connectors.lap_blocks import LAP
from .features_loss import Spread
from .new_connector import file_name_of


@dataclass(frozen=True, eq=False)
class Reading:
    """What a connector reads of a caption.

    Attributes:
        layers: [1, L, N, D], as the VLM made them.
        real: [1, N] bool, False = a pad token.
        dropped: Leading tokens that it reads and the target never sees.
        ids: Ids of the tokens that the target sees.
        spans: Characters of the caption that each of these stands for.
    """

    layers: torch.Tensor
    real: torch.Tensor
    dropped: int
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


class Student(nn.Module):
    """A connector whose weights are learnt in units of what it reads and gives.

    A VLM's dimensions differ in size by thousands, and so do a text encoder's: a step that is right
    for one weight is nothing for another. So a linear layer at either end is learnt as if what it
    reads had mean 0 and std 1, and what it gives too. The weights that the file gets are computed
    from those in every forward: what is trained is what is written, bit for bit.

    Attributes:
        module: The connector, which lends its way of computing; its own values are not used.
        learnt: Its parameters as they are learnt.
    """

    def __init__(
        self,
        module: Chain | AlignNet | LAP,
        reads: Spread | None = None,
        gives: Spread | None = None,
        pooled: Spread | None = None,
    ):
        """Takes a connector.

        Args:
            module: Its weights are where the learning begins, in the units above.
            reads, gives, pooled: Of what it reads and gives; None = weights as they are.
        """
        super().__init__()
        self._module = [module]  # in a list: its parameters are not this module's
        self.learnt = nn.ParameterDict(
            {name.replace(".", "/"): value.detach().clone() for name, value in _named(module)}
        )
        for name, spread in (("reads", reads), ("gives", gives), ("pooled", pooled)):
            self.register_buffer(f"{name}_mean", None if spread is None else spread.mean.clone())
            self.register_buffer(f"{name}_std", None if spread is None else spread.std.clone())

    @property
    def module(self) -> Chain | AlignNet | LAP:
        """The connector, whose own values are not used."""
        return self._module[0]

    def weights(self) -> dict[str, torch.Tensor]:
        """The parameters of the connector, by the module's names; a gradient flows back."""
        found = {name.replace("/", "."): value for name, value in self.learnt.items()}
        if isinstance(self.module, Chain):
            return self._chain_weights(found)
        if isinstance(self.module, AlignNet):
            _scale_rows(found, "mlp_projector_2_weight", None, None, self.gives_std)
            _scale_rows(
                found, "mlp_fc_1_weight", "mlp_fc_1_bias", self.pooled_mean, self.pooled_std
            )
        return found

    def file_weights(self) -> dict[str, torch.Tensor]:
        """The state dict that `load_connector` reads, on the CPU."""
        with torch.no_grad():
            found = self.weights()
        return {file_name_of(self.module, name): value.cpu() for name, value in found.items()}

    def forward(
        self, readings: Sequence[Reading]
    ) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """Context [N, W] and pooled vector [P] or None of each, in float32.

        Each caption goes by itself, as it will in use.
        """
        weights = self.weights()
        return [self._one(weights, reading) for reading in readings]

    def _one(
        self, weights: dict[str, torch.Tensor], reading: Reading
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        device = next(iter(weights.values())).device
        layers, n = reading.layers.to(device), reading.layers.shape[2]
        if isinstance(self.module, Chain):
            return functional_call(self.module, weights, (layers[:, 0],))[0], None

        def stretch(start: int, stop: int) -> torch.Tensor:
            return layers[:, :, start:stop]

        if isinstance(self.module, AlignNet):
            context, pooled = functional_call(self.module, weights, (stretch, n))
            return context[0, reading.dropped :], pooled[0]
        real = None if bool(reading.real.all()) else reading.real.to(device)
        arguments = {"layers": stretch, "tokens": n, "real": real}
        return functional_call(self.module, weights, (), arguments)[0], None

    def _chain_weights(self, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The first step reads, and the last one gives, what the VLM and the target have."""
        last = len(self.module.weights) - 1
        if self.gives_std is not None:
            names = f"weights.{last}", f"biases.{last}"
            _scale_rows(found, *names, self.gives_mean, self.gives_std)
        if self.reads_std is not None and found["weights.0"].ndim == 2:
            weight = found["weights.0"] / self.reads_std
            found["biases.0"] = found["biases.0"] - weight @ self.reads_mean
            found["weights.0"] = weight
        return found


def _named(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return list(module.named_parameters())


def _scale_rows(
    found: dict[str, torch.Tensor],
    weight: str,
    bias: str | None,
    mean: torch.Tensor | None,
    std: torch.Tensor | None,
) -> None:
    """Has a linear layer, or a norm's scale, give values of this mean and std."""
    if std is None:
        return
    found[weight] = found[weight] * (std[:, None] if found[weight].ndim == 2 else std)
    if bias is not None and mean is not None:
        found[bias] = found[bias] * std + mean
