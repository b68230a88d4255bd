"""The hidden states of one encoded prompt: every layer passed is held, deeper ones are run."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import torch

from ..arguments import checked
from ..files.units import MEGABYTE
from ..prompts.prompt import Prompt
from ..targets import Target
from ..token_map import roles_in_words
from ..token_map import take as take_map
from .deepen import deepen
from .engine import Engine
from .layer_store import LayerStore, cut

Means = Callable[[torch.Tensor], torch.Tensor]


class Pooled(NamedTuple):
    """How pooled hidden states are made of others; see `HiddenStates.pool`."""

    of: HiddenStates
    means: Means
    token_map: dict


class HiddenStates:
    """The residual stream of a VLM's language model for one prompt, fetched per layer.

    Layer k is the stream that enters decoder layer k + 1: 0 the embeddings, then each decoder
    layer's output with the vision features that DeepStack adds; L - 1 comes after the last
    decoder layer. Negative indices count from the end.

    Attributes:
        prompt: What was encoded.
        target: The diffusion model it was encoded for.
        keyframe: Which version of the weights ran, an index into `Host.keyframes`.
        options: What conditioning made of them carries, of that keyframe.
        num_layers: L, one more than the model has decoder layers.
        width: D.
        dtype: The model's dtype, which the states keep.
        store: The layers held, as the model made them: neither a filter nor weights show there.
    """

    def __init__(
        self, engine: Engine, prompt: Prompt, target: Target, keep_mb: float, keyframe: int = 0
    ):
        """Made by `states_of`; nothing has run yet.

        Args:
            engine: The model; held until `hold_model_weakly` is called.
            prompt: Ids, token map and pictures.
            target: What `auto` means downstream.
            keep_mb: Bound in MB (2**20 bytes) under which every layer passed is kept.
            keyframe: Which version of the weights runs, an index into `Host.keyframes`.
        """
        host = engine.host
        self._engine: Callable[[], Engine | None] = lambda: engine
        # Shared by what `take` and `weigh` return.
        self.store = LayerStore(prompt, engine.num_layers, keyframe, host.hold_device, keep_mb)
        self._indices: tuple[int, ...] | None = None  # tokens a filter left; None = all
        self._weights: torch.Tensor | None = None  # [N] of what is left; None = all 1
        self._pooled: Pooled | None = None  # how its tokens are made of others; None = they are not
        self._later: tuple[HiddenStates, ...] = ()
        self.prompt = prompt
        self.target = target
        self.keyframe = keyframe
        self.options = dict.fromkeys(target.always_empty) | host.keyframes[keyframe]
        self.num_layers = engine.num_layers
        self.width = engine.backbone.width
        self.dtype = engine.backbone.dtype

    def __repr__(self) -> str:
        what = f"{roles_in_words(self.token_map)}; held to layer {self.depth}"
        return (
            f"HiddenStates({what} of {self.num_layers - 1}, {self.width} wide, {self.target.name})"
        )

    @property
    def keyframes(self) -> list[HiddenStates]:
        """Itself, and the same prompt under each later version of the weights."""
        return [self, *self._later]

    def add_keyframes(self, later: Sequence[HiddenStates]) -> None:
        """Adds the same prompt under later versions of the weights; called by `states_of`."""
        self._later = tuple(later)

    def hold_model_weakly(self) -> HiddenStates:
        """Lets go of the model, for who keeps hidden states longer than weights shall stay.

        A layer deeper than what is held can then be run only as long as somebody else holds the
        model.

        Returns:
            Itself.
        """
        for each in self.keyframes:
            engine = each._engine()
            if engine is not None:
                each._engine = weakref.ref(engine)
        return self

    @property
    def token_map(self) -> dict:
        """Role and place of each of the N tokens, plain data."""
        whole, kept = self.origin
        return whole if self._indices is None else take_map(whole, kept)

    @property
    def n(self) -> int:
        """N, the tokens it stands for."""
        return len(self.prompt.ids) if self._indices is None else len(self._indices)

    @property
    def has_images(self) -> bool:
        """Whether the model saw pictures, also where a filter left none of their tokens."""
        return bool(self.prompt.vision_inputs)

    @property
    def dropped(self) -> int:
        """Leading tokens that the target never sees; gates leave them out."""
        dropped = self.prompt.dropped if self._pooled is None else self._pooled.of.dropped
        if self._indices is None:
            return dropped
        return sum(index < dropped for index in self._indices)

    @property
    def origin(self) -> tuple[dict, Sequence[int]]:
        """The map before any filter, and the places of these tokens in it."""
        whole = self.prompt.token_map if self._pooled is None else self._pooled.token_map
        return whole, range(whole["n"]) if self._indices is None else self._indices

    def take(self, indices: Sequence[int]) -> HiddenStates:
        """The same hidden states with some of their tokens, in that order.

        Nothing is copied or run: both share the layers held.

        Args:
            indices: Of this object's tokens, origin 0; at least one.

        Raises:
            ValueError: No token.
        """
        if not len(indices):
            raise ValueError("Hidden states of no token. Have `keep` leave at least one.")
        fewer = copy.copy(self)
        kept = range(len(self.prompt.ids)) if self._indices is None else self._indices
        fewer._indices = tuple(kept[index] for index in indices)
        if self._weights is not None:
            fewer._weights = self._weights[list(indices)]
        fewer._later = tuple(each.take(indices) for each in self._later)
        return fewer

    def weigh(self, weights: torch.Tensor) -> HiddenStates:
        """The same hidden states with every layer's tokens multiplied.

        Nothing is copied or run: both share the layers held, and a layer is multiplied when it is
        asked for, the last one after its final norm.

        Args:
            weights: [N], one per token; multiplies weights given before.
        """
        weighed = copy.copy(self)
        weighed._weights = weights.float().cpu()
        if self._weights is not None:
            weighed._weights = weighed._weights * self._weights
        weighed._later = tuple(each.weigh(weights) for each in self._later)
        return weighed

    def pool(self, means: Means, token_map: dict, firsts: Sequence[int]) -> HiddenStates:
        """The same hidden states with tokens that are means of these.

        Nothing is copied or run: a layer is pooled when it is asked for, the last one after its
        final norm.

        Args:
            means: Makes [L, n, D] of [L, N, D]; tokens that the target never sees stay in front.
            token_map: Of the n tokens.
            firsts: For each of them the first of those that it is made of; read by `Tokens.pool`.
        """
        pooled = copy.copy(self)
        pooled._pooled = Pooled(self, means, token_map)
        pooled._indices, pooled._weights = tuple(range(token_map["n"])), None
        pooled._later = tuple(each.pool(means, token_map, firsts) for each in self._later)
        return pooled

    @property
    def depth(self) -> int:
        """The deepest layer held; -1 before anything ran."""
        return self.store.depth

    @property
    def held(self) -> tuple[int, ...]:
        """Indices of the layers held, ascending."""
        return self.store.held

    @property
    def reused_tokens(self) -> int:
        """Tokens that the last run took from the prefix cache."""
        return self.store.reused_tokens

    @property
    def patcher(self) -> Any:
        """The model's patcher, by which ComfyUI's caches know what holds a model; or None."""
        engine = self._engine()
        return None if engine is None else engine.patcher

    @checked
    def layer(self, k: int, final_norm: bool = True) -> torch.Tensor:
        """One layer's states, run if nothing that deep was run before.

        Args:
            k: Layer index in -L..L-1.
            final_norm: Whether the last layer comes with the model's final norm.

        Returns:
            [1, N, D] in the model's dtype.

        Raises:
            ValueError: No such layer; NaN or Inf in the states; the model is gone.
        """
        return self.layers([k], final_norm)[:, 0]

    @checked
    def layers(self, ks: Sequence[int], final_norm: bool = True) -> torch.Tensor:
        """Several layers' states, with a single run for those not held.

        Args:
            ks: Layer indices in -L..L-1, in the order wanted.
            final_norm: Whether the last layer comes with the model's final norm.

        Returns:
            [1, len(ks), N, D] in the model's dtype.

        Raises:
            ValueError: No such layer; NaN or Inf in the states; the model is gone.
        """
        if not ks:
            raise ValueError("No layer was asked for. Name at least one, such as -2.")
        wanted = self.reach(*ks)
        if self._pooled is None:
            stacked = torch.stack([self._whole(k, final_norm) for k in wanted], dim=1)
        else:
            stacked = self._pooled.means(self._pooled.of.layers(ks, final_norm)[0])[None]
        if self._indices is not None:
            index = torch.tensor(self._indices, device=stacked.device)
            stacked = stacked.index_select(2, index)
        if self._weights is not None:
            stacked.mul_(self._weights.to(stacked.device)[:, None])
        return stacked

    def stretch(self, start: int, stop: int, ks: Sequence[int] | None = None) -> torch.Tensor:
        """Layers of some neighbouring tokens, the last one normed; nothing else is copied.

        Args:
            start, stop: Range of this object's tokens, origin 0.
            ks: Layer indices in -L..L-1, in the order wanted; None = all.

        Returns:
            [1, len(ks), stop - start, D] in the model's dtype.

        Raises:
            ValueError: No such layer; NaN or Inf in the states; the model is gone.
        """
        last = self.num_layers - 1
        if self._pooled is not None:
            return self.layers(range(self.num_layers) if ks is None else ks)[:, :, start:stop]
        wanted = self.reach(*(range(self.num_layers) if ks is None else ks))
        parts = [(self._whole(k, True),) if k == last else self.store.state(k) for k in wanted]
        rows = [cut(each, self._indices, start, stop) for each in parts]
        stacked = torch.stack(rows, dim=1)
        if self._weights is not None:
            stacked.mul_(self._weights[start:stop].to(stacked.device)[:, None])
        return stacked

    def _whole(self, k: int, final_norm: bool) -> torch.Tensor:
        if not final_norm or k != self.num_layers - 1:
            return torch.cat(self.store.state(k), dim=1)
        if self.store.normed is None:
            raise ValueError(
                "This VLM's file was cut before its final norm. Switch `final_norm` off, or "
                "choose a layer before the last."
            )
        return self.store.normed

    @checked
    def reach(self, *ks: int) -> list[int]:
        """Runs as deep as these layers need; computes nothing for those held.

        Args:
            ks: Layer indices in -L..L-1.

        Returns:
            The same indices, origin 0.

        Raises:
            ValueError: No such layer; NaN or Inf in the states; the model is gone.
        """
        wanted = [self._index(k) for k in ks]
        missing = self.store.ask(wanted)
        if missing:
            deepen(self._running_engine(missing[-1]), self.store, missing)
        return wanted

    def reach_target(self) -> None:
        """Runs as deep as the target reads; its layers then stay, whatever the bound.

        Raises:
            ValueError: The model is not that deep; NaN or Inf in the states.
        """
        self.reach(*self.target_layers)

    @property
    def target_layers(self) -> tuple[int, ...]:
        """The layers that the target reads; the deepest one where it reads all.

        Raises:
            ValueError: The model is not that deep.
        """
        deepest = self.target.depth(self.num_layers, self.has_images)
        return self.target.layers_for(self.has_images) or (deepest,)

    def ask_target(self) -> None:
        """Has the layers that the target reads stay once they ran, whatever the bound.

        Raises:
            ValueError: The model is not that deep.
        """
        self.store.ask([self._index(k) for k in self.target_layers])

    def _index(self, k: int) -> int:
        if not -self.num_layers <= k < self.num_layers:
            raise ValueError(
                f"Layer {k} does not exist: this model has the layers 0 to {self.num_layers - 1} "
                f"(or -{self.num_layers} to -1), where 0 are the embeddings. Set `depth` or "
                "`layers` to one of these."
            )
        return k % self.num_layers

    def _running_engine(self, layer: int) -> Engine:
        engine = self._engine()
        if engine is None:
            why = f"`encode` ran to layer {max(self.depth, 0)}"
            if layer <= self.depth:
                kept = self.store.keep_bytes // MEGABYTE
                why = f"`keep_mb` ({kept} MB) was too small to keep it"
            raise ValueError(
                f"Layer {layer} was asked for, {why}, and the model that could run it has been "
                f"unloaded. Set `depth` to {layer}, and encode again."
            )
        return engine

    def _refuse(self) -> NoReturn:
        raise TypeError(
            "These are hidden states, not CONDITIONING; put Hidden Layer Select, LAP Pool or "
            "Connector Apply before the sampler."
        )

    def __iter__(self) -> Iterator[Any]:
        self._refuse()

    def __getitem__(self, key: Any) -> Any:
        self._refuse()

    def __len__(self) -> int:
        self._refuse()

    def __add__(self, other: Any) -> Any:
        self._refuse()

    __radd__ = __add__


def states_of(engine: Engine, prompt: Prompt, target: Target, keep_mb: float) -> HiddenStates:
    """Hidden states of a prompt, with those under later versions of the weights.

    Args:
        engine: The model.
        prompt: What is encoded; nothing runs yet.
        target: What `auto` means downstream.
        keep_mb: Bound in MB (2**20 bytes) under which every layer passed is kept.
    """
    first, *later = (
        HiddenStates(engine, prompt, target, keep_mb, keyframe)
        for keyframe in range(len(engine.host.keyframes))
    )
    first.add_keyframes(later)
    return first
