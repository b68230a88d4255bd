"""Rewriting a prompt: beside transformers' `generate` and an encoding of what it wrote.

The usual way is `generate` (greedy, with its cache), then a full forward of picture, prompt and
answer with `output_hidden_states=True`: two passes over the same tokens. Ours keeps the states of
the pass that wrote. The model is that of encode.py, the number of tokens is forced on both.

A conversation's third turn is beside a prompt of the same words alone: it costs its own tokens, not
those of the turns before it, a picture among them.
"""

from __future__ import annotations

import sys
from typing import Any

import encode
import table
import torch
from PIL import Image

ROUNDS = 5
TOKENS = 64
NEW = {"do_sample": False, "min_new_tokens": TOKENS, "max_new_tokens": TOKENS}


def written(model: Any, encoded: Any, keep: bool = True) -> Any:
    """Our loop behind a prompt to the hidden states, or without keeping any."""
    from vlm.running.hidden_states import HiddenStates
    from vlm.running.rewrite import join_states
    from vlm.running.sampling import Sampling
    from vlm.running.writing import Rewriting

    class Bare(Rewriting):
        def _hold(self, layer: int, hidden: torch.Tensor) -> None:
            pass

    states = HiddenStates(model.engine, encoded.prompt, encoded.target, keep_mb=2048)
    kind = Rewriting if keep else Bare
    run = kind(model.engine, states, frozenset(), [Sampling(temperature=0)], TOKENS)
    run.go()
    roles = ["generated"] * TOKENS
    return join_states(model.engine, states, run.answers[0], roles, 2048) if keep else run


def ours_of(model: Any, image: Image.Image, text: str, keep: bool) -> Any:
    """From the picture to the hidden states of it, the words and the answer."""
    return written(model, model.encode(text, images=image, target="z-image"), keep)


def third_turn(model: Any, image: Image.Image, clock: encode.Clock, rounds: int) -> table.Row:
    """A third turn's share of what its words take alone, everything before it known."""
    import vlm

    talk = vlm.Conversation().user(encode.words(model, 0), [image]).assistant("A house. " * 20)
    talk = talk.user(encode.words(model, 3)).assistant("Two boats and birds. " * 15)
    text = encode.words(model, 5)
    model.prefix_cache.limit = 2**32
    for number in range(rounds):
        table.say(f"third turn, round {number + 1} of {rounds}")
        model.prefix_cache.clear()
        clock.time("alone", lambda: written(model, model.encode(text, system="")))
        model.encode("Something else", conversation=talk, system="", depth=-1)
        known = model.prefix_cache.bytes
        made = clock.time(
            "third", lambda: written(model, model.encode(text, conversation=talk, system=""))
        )
        if not known or made.reused_tokens < 700:
            raise ValueError("The turns before the third were not reused. Nothing was measured.")
    share = clock.median("third") / clock.median("alone")
    return table.Row("a third turn", share, 1.1, "of its words alone")


class Usual(encode.Usual):
    """transformers' way."""

    @torch.no_grad()
    def run(self, image: Image.Image) -> Any:
        """The ids, and all hidden states of a forward of them."""
        patches = self.processor(images=[image], return_tensors="pt")
        ids = self.whole.generate(**self.inputs, **patches, **NEW, pad_token_id=0)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if "mm_token_type_ids" in self.inputs:
            inputs["mm_token_type_ids"] = (ids == self.whole.config.image_token_id).int()
        return ids, self.whole(**inputs, **patches, output_hidden_states=True)


def check(usual: Any, made: Any) -> None:
    """Both ways wrote the same, and hold the same.

    Raises:
        ValueError: They do not, so that their times mean nothing.
    """
    ids, output = usual
    theirs, ours = output.hidden_states[12], made.layer(12)
    apart = (theirs - ours).abs().max() / theirs.abs().max()
    if ids[0].tolist() != list(made.prompt.ids) or apart > 1e-4:
        raise ValueError(f"The two ways differ: states by {apart:.1e}. Nothing was measured.")


def speed(rounds: int) -> list[table.Row]:
    """Every kind of work once a round, in turn."""
    whole, processor, ours = encode.build()
    ours.prefix_cache.limit = 0
    image, text, clock = encode.picture(0), encode.words(ours, 0), encode.Clock()
    prompt = ours.encode(text, images=image, target="z-image").prompt
    usual = Usual(whole, processor, prompt.ids)
    check(usual.run(image), ours_of(ours, image, text, keep=True))
    for number in range(rounds):
        table.say(f"round {number + 1} of {rounds}")
        clock.time("usual", lambda: usual.run(image))
        clock.time("kept", lambda: ours_of(ours, image, text, keep=True))
        clock.time("bare", lambda: ours_of(ours, image, text, keep=False))
    kept = clock.median("kept")
    return [
        table.Row("generate, then a forward of it all", clock.median("usual"), None, "s"),
        table.Row("writing with states", kept / clock.median("usual"), 0.85, "of the usual way"),
        table.Row("writing with states", kept / clock.median("bare"), 1.1, "of without states"),
        third_turn(ours, image, clock, rounds),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    parser = table.parser(__doc__)
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="measurements of each, at least 5 (default 5)"
    )
    options = parser.parse_args(arguments)
    encode.quiet()
    return table.finish(speed(max(options.rounds, 5)), options.json)


if __name__ == "__main__":
    sys.exit(main())
