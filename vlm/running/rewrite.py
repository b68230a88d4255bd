"""A VLM rewrites a prompt, and what it thought while it wrote is kept: one pass for both.

Source: UniFusion, section 3.3 (VERIFI): the rewritten tokens attend to the prompt and the pictures,
so their states are not those of the same words encoded alone.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace

import torch

from ..prompts.messages import valid_text
from ..prompts.prompt import Prompt
from ..prompts.tokenizer import Tokenizer
from ..targets import Target
from .deepen import go
from .engine import Engine
from .hidden_states import HiddenStates, states_of
from .sampling import Sampling
from .writing import Answer, OnToken, Rewriting

MOST_ANSWERS = 16
Pad = Callable[[Prompt], Prompt]

MAX_TOKENS = 1536  # a layout of a poster takes a thousand, and thinking comes on top


@dataclass(frozen=True)
class Rewritten:
    """A rewritten prompt.

    Attributes:
        states: Of prompt, pictures and answer, with the roles `generated` and `thinking`.
        text: The answer in words, without thinking and special tokens.
        tokens: Generated tokens kept, thinking included.
        finished: False where the answer was cut at the most tokens allowed.
        others: Where several answers were asked for, the next ones, without those in which nothing
            can be read.
    """

    states: HiddenStates
    text: str
    tokens: int
    finished: bool
    others: tuple[Rewritten, ...] = ()


@dataclass(frozen=True)
class Wish:
    """How answers are to be written.

    Attributes:
        sampling: How tokens are chosen; each answer after the first has the next seed.
        answers: How many.
        max_tokens: Most tokens of each.
        on_token: Is given the ids of an answer so far, after each token.

    Raises:
        ValueError: A number outside its range; several answers that would all be the same.
    """

    sampling: Sampling
    answers: int = 1
    max_tokens: int = MAX_TOKENS
    on_token: OnToken | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(
                f"max_tokens is {self.max_tokens}; expected at least 1, such as {MAX_TOKENS}."
            )
        if not 1 <= self.answers <= MOST_ANSWERS:
            raise ValueError(
                f"answers is {self.answers}; expected 1 to {MOST_ANSWERS}. For more, run again "
                "with another seed."
            )
        if self.answers > 1 and not self.sampling.temperature:
            raise ValueError(
                f"answers is {self.answers}, and at temperature 0 all of them would be the same. "
                "Raise temperature, to 0.7 for instance, or ask for one answer."
            )

    def samplings(self) -> list[Sampling]:
        """Of each answer."""
        first = self.sampling
        seeds = ((first.seed + number) % 2**64 for number in range(self.answers))
        return [first, *(replace(first, seed=seed) for seed in list(seeds)[1:])]


def write(
    engine: Engine,
    tokenizer: Tokenizer,
    stops: Container[int],
    prompt: Prompt,
    target: Target,
    wish: Wish,
    keep_mb: float,
    pad: Pad | None = None,
) -> Rewritten:
    """Has a model answer a prompt, which runs once for all answers.

    Args:
        engine: The model.
        tokenizer: Its tokenizer.
        stops: Ids of the tokens that end an answer.
        prompt: Without pad tokens at its end.
        target: What `auto` means downstream; its layers are held, whatever the bound.
        wish: How many answers, and how they are written.
        keep_mb: Bound in MB (2**20 bytes) under which every layer is held, of each answer.
        pad: Puts pad tokens around prompt and answer, which then run, or gives back the same;
            None = there are none.

    Raises:
        ValueError: Nothing was written, or only thinking; the model cannot write.
        torch.OutOfMemoryError: It does not fit; says how much it needs.
    """
    share = len(prompt.ids) / (len(prompt.ids) + wish.max_tokens)
    states = HiddenStates(engine, prompt, target, keep_mb * share)
    states.ask_target()
    samplings = wish.samplings()
    run = go(lambda: Rewriting(engine, states, stops, samplings, wish.max_tokens, wish.on_token))
    made = []
    for answer in run.answers:
        roles = _roles(engine, tokenizer, prompt, answer.ids)
        text = _words(tokenizer, answer.ids, roles)
        if text.strip():
            whole = join_states(engine, states, answer, roles, keep_mb)
            padded = whole.prompt if pad is None else pad(whole.prompt)
            if padded is not whole.prompt:
                whole = states_of(engine, padded, target, keep_mb)
            made.append(Rewritten(whole, text, len(answer.ids), answer.finished))
    if not made:
        raise ValueError(_nothing_written(roles, wish.max_tokens))
    return replace(made[0], others=tuple(made[1:]))


def replay(
    engine: Engine,
    tokenizer: Tokenizer,
    prompt: Prompt,
    target: Target,
    answer: str,
    keep_mb: float,
    pad: Pad | None = None,
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
        pad: As for `write`.

    Raises:
        ValueError: An empty answer.
    """
    answer = valid_text(answer)
    if not answer.strip():
        raise ValueError("The answer to replay is empty. Type one, or leave it out to generate.")
    ids, _ = tokenizer.split(answer)
    longer = prompt.continued(ids, ["generated"] * len(ids))
    if pad is not None:
        longer = pad(longer)
    return Rewritten(states_of(engine, longer, target, keep_mb), answer, len(ids), True)


def join_states(
    engine: Engine, before: HiddenStates, answer: Answer, roles: Sequence[str], keep_mb: float
) -> HiddenStates:
    """Hidden states of a prompt and an answer of the same run; both share the prompt's.

    Args:
        engine: The model.
        before: The prompt's.
        answer: What was written behind it.
        roles: Of each of its tokens.
        keep_mb: Bound in MB (2**20 bytes) under which every layer is held.
    """
    longer = before.prompt.continued(answer.ids, roles)
    states = states_of(engine, longer, before.target, keep_mb)
    states.ask_target()
    for layer, new in answer.rows.items():
        normed = None
        if layer == states.num_layers - 1 and answer.normed is not None:
            normed = torch.cat([before.store.normed, answer.normed], dim=1)
        states.store.hold(layer, (*before.store.state(layer), new), normed)
    states.store.reused_tokens = before.reused_tokens
    return states


def _words(tokenizer: Tokenizer, ids: Sequence[int], roles: Sequence[str]) -> str:
    """What an answer says, without its thinking."""
    spoken = [token for token, role in zip(ids, roles, strict=True) if role == "generated"]
    text = tokenizer.words_of(spoken)
    return text.lstrip() if "thinking" in roles else text


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
