"""All decoder layers in one forward of the language model, where they cannot be run one at a time.

Slower than layer by layer: nothing is resumed and no prefix is reused. What enters each layer is
caught on its way in, which no version of transformers can call another name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from ..families.decoder import Decoder
from ..quoted import reason
from .decoder_layer import DISAGREEMENTS, CallError, parameters
from .left_pads import blank_pads

# (places [n] of the sequence, features [n, D]) that DeepStack adds after a decoder layer.
Added = tuple[list[int], torch.Tensor]


class _Reached(Exception):
    """The layer asked for is reached: the forward ends here."""


@dataclass(frozen=True)
class ForwardInputs:
    """What enters the language model.

    Attributes:
        hidden: Embeddings, pictures' features included, [1, N, D].
        positions: int64 [3, N].
        allowed: True where position q may look at position k, [1, 1, N, N]; None = causal.
        added: What is added to the stream after the first decoder layers.
        pads: Pad tokens in front, whose attention shall be zero.
    """

    hidden: torch.Tensor
    positions: torch.Tensor
    allowed: torch.Tensor | None = None
    added: list[Added] = field(default_factory=list)
    pads: int = 0

    def longer(self, hidden: torch.Tensor, positions: torch.Tensor) -> ForwardInputs:
        """With M tokens more, [1, M, D] and [3, M], which look at all before them."""
        whole = torch.cat([self.hidden, hidden], dim=1)
        places = torch.cat([self.positions, positions], dim=1)
        allowed = self.allowed
        if allowed is not None:
            known = allowed.shape[-1]
            allowed = _causal(whole)
            allowed[..., :known, :known] = self.allowed
        return ForwardInputs(whole, places, allowed, self.added, self.pads)


class _Watch:
    """Stands before each layer, and ends the forward at the last one.

    Attributes:
        end: Where.
        masks: Of each decoder layer, put in the place of what it is given; None = that is right.
        entered: Whether a layer was reached.
        last: States [1, N, D] of layer `end`, once it is reached.
    """

    last: torch.Tensor

    def __init__(self, inputs: ForwardInputs, end: int, keep: Callable[[int, torch.Tensor], None]):
        """See `PlainForward.run`."""
        self._inputs = inputs
        self._keep = keep
        self.end = end
        self.masks: list[torch.Tensor | None] | None = None
        self.entered = False

    def enter(
        self, layer: int, module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]
    ) -> tuple[tuple, dict[str, Any]]:
        """A pre-hook of a layer, or of the norm behind the last one.

        Raises:
            TypeError: Nothing it is given has the shape of the residual stream; it takes no mask.
        """
        self.entered = True
        place = _find_stream(args, kwargs, self._inputs.hidden)
        hidden = kwargs[place] if isinstance(place, str) else args[place]
        if 0 < layer <= len(self._inputs.added):
            places, features = self._inputs.added[layer - 1]
            hidden = hidden.clone()
            hidden[:, places] += features.to(hidden.dtype)
        if layer == self.end:
            self.last = hidden
            raise _Reached
        self._keep(layer, hidden)
        if self.masks is not None:
            if "attention_mask" not in kwargs:
                raise TypeError(f"{type(module).__name__} is given no attention_mask")
            kwargs = {**kwargs, "attention_mask": self.masks[layer]}
        if isinstance(place, str):
            return args, {**kwargs, place: hidden}
        return (*args[:place], hidden, *args[place + 1 :]), kwargs


class PlainForward:
    """The language model's own forward, watched."""

    def __init__(self, text: torch.nn.Module, decoder: Decoder):
        """Takes the language model and what its family does its own way."""
        self._text = text
        self._decoder = decoder

    def run(
        self, inputs: ForwardInputs, end: int, keep: Callable[[int, torch.Tensor], None]
    ) -> torch.Tensor:
        """Runs to a layer, no further.

        Args:
            inputs: What enters.
            end: Layer index (0 = the embeddings, after the last decoder layer there is one more).
            keep: Is given each layer's index and states [1, N, D], which it must copy.

        Returns:
            The states [1, N, D] of layer `end`.

        Raises:
            CallError: The forward takes something else than what is known here.
        """
        watch = _Watch(inputs, end, keep)
        arguments = self._arguments(inputs)
        mask = arguments.get("attention_mask")
        with blank_pads(self._text.layers, inputs.pads):
            try:
                self._forward(arguments, watch)
            except CallError:
                if watch.entered or not isinstance(mask, dict):
                    raise
                # It takes one mask for all, and makes those of each kind of layer by itself.
                kinds = self._text.config.layer_types
                watch.masks = [mask[kind] for kind in kinds]
                self._forward({**arguments, "attention_mask": None}, watch)
        keep(end, watch.last)  # without hooks: it may run the norm
        return watch.last

    def _forward(self, arguments: dict[str, Any], watch: _Watch) -> None:
        """Runs until the watch has what it wants.

        Raises:
            CallError: The forward takes something else than what is known here.
        """
        # What comes after the last layer enters the norm.
        stages = [*self._text.layers, self._text.norm][: watch.end + 1]
        hooks = [
            stage.register_forward_pre_hook(partial(watch.enter, layer), with_kwargs=True)
            for layer, stage in enumerate(stages)
        ]
        kind = type(self._text).__name__
        try:
            self._text(**arguments)
            raise CallError(f"{kind} ended before layer {watch.end} was entered.")
        except DISAGREEMENTS as error:
            raise CallError(f"{type(error).__name__}: {reason(error, 300)}") from error
        except _Reached:
            return
        finally:
            for hook in hooks:
                hook.remove()

    def _arguments(self, inputs: ForwardInputs) -> dict[str, Any]:
        """Embeddings, positions and mask, in the words of the language model's forward.

        Raises:
            TypeError: It takes none of one of them, and its own would be another.
        """
        hidden = inputs.hidden
        for module in self._text.children():  # rotary embeddings: buffers, which nobody moves
            if next(module.parameters(), None) is None:
                module.to(hidden.device)
        count = torch.arange(hidden.shape[1], device=hidden.device).expand(3, -1)
        plain = inputs.allowed is None and torch.equal(inputs.positions, count)
        # Always a whole mask: without one, some versions take jumps of the position for the
        # beginning of another sequence.
        allowed = _causal(hidden) if inputs.allowed is None else inputs.allowed
        given = {
            "inputs_embeds": hidden,
            "position_ids": self._decoder.axes(inputs.positions),
            "attention_mask": self._decoder.mask(self._text, allowed, hidden, 0),
            "use_cache": False,
        }
        taken = parameters(type(self._text))
        missing = [name for name in given if name not in taken and name != "use_cache"]
        if "inputs_embeds" in missing or (missing and not plain):
            raise TypeError(f"{type(self._text).__name__} takes no {', '.join(missing)}.")
        return {name: value for name, value in given.items() if name in taken}


def _causal(hidden: torch.Tensor) -> torch.Tensor:
    """A mask [1, 1, N, N] that lets each of N tokens look at itself and those before it."""
    tokens = hidden.shape[1]
    return torch.ones((1, 1, tokens, tokens), dtype=torch.bool, device=hidden.device).tril_()


def _find_stream(args: tuple, kwargs: dict[str, Any], like: torch.Tensor) -> int | str:
    """Where the residual stream is among a module's arguments: place or name.

    Raises:
        TypeError: None of them is a tensor of that shape.
    """
    places: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    for place, value in places:
        if isinstance(value, torch.Tensor) and value.shape == like.shape:
            return place
    raise TypeError("no argument of a decoder layer has the shape of the residual stream")
