"""A VLM rewrites a prompt, and what it thought while it wrote is kept: one pass for both.

Source: UniFusion, section 3.3 (VERIFI): the rewritten tokens attend to the prompt and the pictures,
so their states are not those of the same words encoded alone.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch

from ..families.layer_cache import GrowingCache
from ..finite import is_finite
from ..prompts.messages import valid_text
from ..prompts.prompt import Prompt
from ..prompts.tokenizer import Tokenizer
from ..targets import Target
from .backbone import TEXT
from .decoder_layer import DISAGREEMENTS, CallError
from .deepen import go
from .engine import Engine
from .hidden_states import HiddenStates, states_of
from .prefix_cache import Prefix
from .run import Run
from .sampling import Sampling

MAX_TOKENS = 1536  # a layout of a poster takes a thousand, and thinking comes on top


@dataclass(frozen=True)
class Rewritten:
    """A rewritten prompt.

    Attributes:
        states: Of prompt, pictures and answer, with the roles `generated` and `thinking`.
        text: The answer in words, without thinking and special tokens.
        tokens: Generated tokens kept, thinking included.
        finished: False where the answer was cut at the most tokens allowed.
    """

    states: HiddenStates
    text: str
    tokens: int
    finished: bool


class Rewriting(Run):
    """A run of a prompt through all layers that goes on token by token.

    Every token kept passes all layers, the last one too, so each has its states.

    Attributes:
        states: Of the prompt.
        ids: Tokens generated, without the stop token.
        finished: Whether a stop token ended it.
    """

    function = "`rewrite`"

    def __init__(
        self,
        engine: Engine,
        states: HiddenStates,
        stops: Container[int],
        sampling: Sampling,
        max_tokens: int,
    ):
        """Prepares a run.

        Args:
            engine: The model.
            states: Of the prompt; take its layers.
            stops: Tokens that end the answer.
            sampling: How tokens are chosen.
            max_tokens: Most tokens generated.
        """
        super().__init__(engine, states.store, range(states.num_layers))
        self.states = states
        self.total += max_tokens
        self.ids: list[int] = []
        self.finished = False
        self._max_tokens = max_tokens
        self._sampling = sampling
        self._stops = stops
        self._caches: list[GrowingCache] = []
        self._rows: dict[int, torch.Tensor] = {}  # by layer held, [1, max_tokens, D]
        self._whole: dict[int, torch.Tensor] = {}  # likewise, the prompt's before them

    def whole(self, layer: int) -> torch.Tensor:
        """States [1, N + M, D] of the prompt and the M generated tokens in a layer held."""
        return self._whole[layer]

    def generated_normed(self) -> torch.Tensor | None:
        """The last layer's [1, M, D] after the final norm; None where there is none."""
        last = self._rows[self.store.num_layers - 1][:, : len(self.ids)]
        normed = self.backbone.norm(last)
        return None if normed is None else normed.to(self.store.device, copy=True)

    def _needed(self, part: str) -> int:
        needed = super()._needed(part)
        if part == TEXT:
            needed += self.backbone.writing_bytes(len(self.prompt.ids) + self._max_tokens)
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
            raise CallError(f"{type(error).__name__}: {error}") from error
        self._caches.append(cache)
        return cache

    def _run(self) -> torch.Tensor:
        hidden = super()._run()[:, -1:]
        shape = 1, self._max_tokens, hidden.shape[-1]
        self._rows = {layer: hidden.new_empty(shape) for layer in self.store.held}
        generator = self._sampling.generator()
        first = int(self.positions.max()) + 1
        while len(self.ids) < self._max_tokens:
            token = self._sampling.choose(self._head(self.backbone.norm(hidden)), generator)
            if token in self._stops:
                self.finished = True
                break
            hidden = self._advance(token, first + len(self.ids))
            self.ids.append(token)
            self._step()
        self.engine.host.step(self.total, self.total)
        for layer in self.store.held:
            new = self._rows[layer][:, : len(self.ids)].to(self.store.device)
            self._whole[layer] = torch.cat([*self.store.state(layer), new], dim=1)
        self._remember()
        self._caches.clear()
        return hidden

    def _remember(self) -> None:
        """Puts all that ran into the prefix cache: a conversation's next turn begins with it."""
        cache = self.engine.prefix_cache
        every = len(self._whole) == self.store.num_layers
        if not (cache.limit and self.decoder.reuses_prefix and self.plain is None and every):
            return
        ended = self.prompt.continued(self.ids, ["generated"] * len(self.ids))
        length = len(ended.ids)
        shorter = {self.store.prefix_key_of(ended, n): n for n in ended.shared}
        pairs = [one.whole for one in self._caches if one.whole is not None]
        whole = Prefix(length, [*self._whole.values()], pairs, shorter)
        if whole.bytes <= cache.limit:
            device = self.engine.host.cache_device
            whole.pairs[:] = [(k.to(device, copy=True), v.to(device, copy=True)) for k, v in pairs]
            cache.put(self.store.prefix_key_of(ended, length), whole)

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
            row = len(self.ids)
            bad = (k for k, rows in self._rows.items() if not is_finite(rows[:, row]))
            raise self._not_finite(min(bad))
        return hidden

    def _pass_one(self, hidden: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Takes one token [1, 1, D] at [3, 1] through the layers one at a time."""
        rotary = self.backbone.rotary(hidden, places)
        past = len(self.prompt.ids) + len(self.ids)
        mask = self.backbone.attention_mask(None, hidden, past)
        for layer, cache in enumerate(self._caches):
            self._keep_row(layer, hidden)
            hidden = self.backbone.run_layer(layer, hidden, rotary, mask, cache)
        self._keep_row(len(self._caches), hidden)
        return hidden

    def _keep_row(self, layer: int, hidden: torch.Tensor) -> None:
        """Keeps the last token's states of a layer."""
        if layer in self._rows:
            self._rows[layer][:, len(self.ids)] = hidden[:, -1]


def write(
    engine: Engine,
    tokenizer: Tokenizer,
    stops: Container[int],
    prompt: Prompt,
    target: Target,
    sampling: Sampling,
    max_tokens: int,
    keep_mb: float,
) -> Rewritten:
    """Has a model answer a prompt.

    Args:
        engine: The model.
        tokenizer: Its tokenizer.
        stops: Ids of the tokens that end the answer.
        prompt: Without pad tokens at its end.
        target: What `auto` means downstream; its layers are held, whatever the bound.
        sampling: How tokens are chosen.
        max_tokens: Most tokens generated.
        keep_mb: Bound in MB (2**20 bytes) under which every layer is held.

    Raises:
        ValueError: Nothing was written, or only thinking; the model cannot write.
        torch.OutOfMemoryError: It does not fit; says how much it needs.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; expected at least 1, such as {MAX_TOKENS}.")
    share = len(prompt.ids) / (len(prompt.ids) + max_tokens)
    states = HiddenStates(engine, prompt, target, keep_mb * share)
    states.ask_target()
    run = go(lambda: Rewriting(engine, states, stops, sampling, max_tokens))
    roles = _roles(engine, tokenizer, prompt, run.ids)
    spoken = [token for token, role in zip(run.ids, roles, strict=True) if role == "generated"]
    text = tokenizer.words_of(spoken)
    text = text.lstrip() if "thinking" in roles else text
    if not text.strip():
        raise ValueError(_nothing_written(roles, max_tokens))
    whole = join_states(engine, run, roles, keep_mb)
    return Rewritten(whole, text, len(run.ids), run.finished)


def replay(
    engine: Engine,
    tokenizer: Tokenizer,
    prompt: Prompt,
    target: Target,
    answer: str,
    keep_mb: float,
) -> Rewritten:
    """The same for an answer that is known already; nothing is generated.

    Layers run when they are asked for, as those of `VLM.encode`.

    Args:
        engine: The model.
        tokenizer: Its tokenizer.
        prompt: Without pad tokens at its end.
        target: What `auto` means downstream.
        answer: The answer's words. Special tokens in it stay ordinary text.
        keep_mb: Bound in MB (2**20 bytes) under which every layer passed is kept.

    Raises:
        ValueError: An empty answer.
    """
    answer = valid_text(answer)
    if not answer.strip():
        raise ValueError("The answer to replay is empty. Type one, or leave it out to generate.")
    ids, _ = tokenizer.split(answer)
    longer = prompt.continued(ids, ["generated"] * len(ids))
    return Rewritten(states_of(engine, longer, target, keep_mb), answer, len(ids), True)


def join_states(
    engine: Engine, run: Rewriting, roles: Sequence[str], keep_mb: float
) -> HiddenStates:
    """Hidden states of the prompt and what was generated, of one run."""
    before = run.states
    longer = before.prompt.continued(run.ids, roles)
    states = states_of(engine, longer, before.target, keep_mb)
    states.ask_target()
    for layer in before.held:
        normed = None
        if layer == states.num_layers - 1 and (end := run.generated_normed()) is not None:
            normed = torch.cat([before.store.normed, end], dim=1)
        states.store.hold(layer, (run.whole(layer),), normed)
    states.store.reused_tokens = before.reused_tokens
    return states


def _roles(engine: Engine, tokenizer: Tokenizer, prompt: Prompt, ids: Sequence[int]) -> list[str]:
    """`thinking` from one of the family's marks to the other, both included; else `generated`."""
    opens, closes = (tokenizer.find(mark) for mark in engine.family.thinking)
    marks = [token for token in prompt.ids if token in opens or token in closes]
    inside = bool(marks) and marks[-1] in opens  # a template may open it for the model
    roles = []
    for token in ids:
        inside = inside or token in opens
        roles.append("thinking" if inside else "generated")
        inside = inside and token not in closes
    return roles


def _nothing_written(roles: Sequence[str], max_tokens: int) -> str:
    if "thinking" in roles:
        return (
            f"`rewrite`: the VLM only thought ({roles.count('thinking')} tokens) and did "
            f"not come to an answer. Raise max_tokens ({max_tokens} now), or say in system that it "
            "shall answer at once."
        )
    return (
        "`rewrite`: the VLM wrote nothing that can be read: its answer is empty or blank. "
        "Change prompt or system, choose another seed with a temperature above 0, or type an "
        "answer."
    )
