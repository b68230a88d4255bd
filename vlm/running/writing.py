"""A run of a prompt that goes on: the model writes, and every layer of what it writes is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import torch

from ..families.layer_cache import GrowingCache
from ..finite import is_finite
from ..quoted import reason
from .backbone import TEXT
from .decoder_layer import DISAGREEMENTS, CallError
from .engine import Engine
from .hidden_states import HiddenStates
from .prefix_cache import Prefix
from .run import Run
from .sampling import Sampling

OnToken = Callable[[Sequence[int]], None]


@dataclass(frozen=True)
class Answer:
    """What was written behind a prompt.

    Attributes:
        ids: Of its M tokens, without the one that ended it.
        finished: Whether a stop token ended it.
        rows: Its states [1, M, D] in each layer held.
        normed: The last layer's after the final norm; None where there is none.
    """

    ids: tuple[int, ...]
    finished: bool
    rows: dict[int, torch.Tensor]
    normed: torch.Tensor | None


class Rewriting(Run):
    """A run of a prompt through all layers that goes on token by token.

    Every token kept passes all layers, the last one too, so each has its states. Several answers
    begin with what the prompt left behind, so that it runs once.

    Attributes:
        states: Of the prompt.
        answers: Those that were written.
    """

    function = "`rewrite`"

    def __init__(
        self,
        engine: Engine,
        states: HiddenStates,
        stops: Container[int],
        samplings: Sequence[Sampling],
        max_tokens: int,
        on_token: OnToken | None = None,
    ):
        """Prepares a run.

        Args:
            engine: The model.
            states: Of the prompt; take its layers.
            stops: Tokens that end an answer.
            samplings: How tokens are chosen, for each answer.
            max_tokens: Most tokens of an answer.
            on_token: Is given the ids of an answer so far, after each token.
        """
        super().__init__(engine, states.store, range(states.num_layers))
        self.states = states
        self.total += max_tokens * len(samplings)
        self.answers: list[Answer] = []
        self._max_tokens = max_tokens
        self._samplings = samplings
        self._stops = stops
        self._on_token = on_token
        self._caches: list[GrowingCache] = []
        self._ids: list[int] = []  # of the answer that is being written
        self._rows: dict[int, torch.Tensor] = {}  # by layer held, [1, max_tokens, D]

    def _needed(self, part: str) -> int:
        needed = super()._needed(part)
        if part == TEXT:
            copies = min(len(self._samplings), 2)
            room = len(self.prompt.ids) + self._max_tokens
            needed += self.backbone.writing_bytes(room) * copies
            row = self.backbone.width * self.backbone.dtype.itemsize
            needed += len(self.passed.keeping) * self._max_tokens * row
        return needed

    def _bring(self, part: str) -> torch.device:
        device = super()._bring(part)
        if part == TEXT:
            self._head = self.backbone.head()  # before the prompt runs: there may be none
        return device

    def _cache(self, past: tuple[torch.Tensor, torch.Tensor] | None) -> GrowingCache:
        room = len(self.prompt.ids) + self._max_tokens
        before = self._caches[-1] if self._caches else None
        try:
            cache = self.decoder.growing_cache(self.backbone.text, room, past, before)
        except DISAGREEMENTS as error:
            raise CallError(f"{type(error).__name__}: {reason(error, 300)}") from error
        self._caches.append(cache)
        return cache

    def _run(self) -> torch.Tensor:
        hidden = super()._run()[:, -1:]
        shape = 1, self._max_tokens, hidden.shape[-1]
        self._rows = {layer: hidden.new_empty(shape) for layer in self.store.held}
        caches, read = self._caches, self.done
        entered = None if self.plain is None else self.entered
        for number, sampling in enumerate(self._samplings, 1):
            last = number == len(self._samplings)
            # Some families' caches cannot go back to where they were.
            self._caches = caches if last else copy.deepcopy(caches)
            if entered is not None:
                self.entered = entered
            self.answers.append(self._write(hidden, sampling))
            self.done = read + number * self._max_tokens
            if number == 1:
                self._remember(self.answers[0])
        self.engine.host.step(self.total, self.total)
        self._caches.clear()
        return hidden

    def _write(self, hidden: torch.Tensor, sampling: Sampling) -> Answer:
        """Writes one answer behind the prompt, whose last state is [1, 1, D]."""
        generator = sampling.generator()
        first = int(self.positions.max()) + 1
        finished, self._ids = False, []
        while len(self._ids) < self._max_tokens:
            token = sampling.choose(self._head(self.backbone.norm(hidden)), generator)
            if token in self._stops:
                finished = True
                break
            hidden = self._advance(token, first + len(self._ids))
            self._ids.append(token)
            if self._on_token is not None:
                self._on_token(tuple(self._ids))
            self._step()
        device, normed = self.store.device, None
        written = {layer: rows[:, : len(self._ids)] for layer, rows in self._rows.items()}
        if (end := written.get(self.store.num_layers - 1)) is not None:
            normed = self.backbone.norm(end)
        rows = {layer: new.to(device, copy=True) for layer, new in written.items()}
        normed = None if normed is None else normed.to(device, copy=True)
        return Answer(tuple(self._ids), finished, rows, normed)

    def _remember(self, answer: Answer) -> None:
        """Puts all that ran into the prefix cache: a conversation's next turn begins with it."""
        cache = self.engine.prefix_cache
        every = len(answer.rows) == self.store.num_layers
        if not (cache.limit and self.decoder.reuses_prefix and self.plain is None and every):
            return
        ended = self.prompt.continued(answer.ids, ["generated"] * len(answer.ids))
        length = len(ended.ids)
        shorter = {self.store.prefix_key_of(ended, n): n for n in ended.shared}
        pairs = [one.whole for one in self._caches if one.whole is not None]
        whole = [
            torch.cat([*self.store.state(layer), new], dim=1) for layer, new in answer.rows.items()
        ]
        known = Prefix(length, whole, pairs, shorter)
        if known.bytes <= cache.limit:
            device = self.engine.host.cache_device
            known.pairs[:] = [(k.to(device, copy=True), v.to(device, copy=True)) for k, v in pairs]
            cache.put(self.store.prefix_key_of(ended, length), known)

    def _advance(self, token: int, position: int) -> torch.Tensor:
        """Runs one token through all layers behind those before it; its last state [1, 1, D]."""
        hidden = self.backbone.embed(torch.tensor([[token]], device=self.device))
        places = torch.full((3, 1), position, device=self.device)
        if self.plain is None:
            hidden = self._pass_one(hidden, places)
        else:
            self.entered = self.entered.longer(hidden, places)
            hidden = self.plain.run(self.entered, self.end, self._keep_row)[:, -1:]
        if not is_finite(hidden):
            row = len(self._ids)
            bad = (k for k, rows in self._rows.items() if not is_finite(rows[:, row]))
            raise self._not_finite(min(bad))
        return hidden

    def _pass_one(self, hidden: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Takes one token [1, 1, D] at [3, 1] through the layers one at a time."""
        rotary = self.backbone.rotary(hidden, places)
        past = len(self.prompt.ids) + len(self._ids)
        mask = self.backbone.attention_mask(None, hidden, past)
        for layer, cache in enumerate(self._caches):
            self._keep_row(layer, hidden)
            hidden = self.backbone.run_layer(layer, hidden, rotary, mask, cache)
        self._keep_row(len(self._caches), hidden)
        return hidden

    def _keep_row(self, layer: int, hidden: torch.Tensor) -> None:
        """Keeps the last token's states of a layer."""
        if layer in self._rows:
            self._rows[layer][:, len(self._ids)] = hidden[:, -1]
