"""Edits of a graph: what runs again, under every way in which ComfyUI caches results."""

from __future__ import annotations

import pytest
import torch
from comfy_result import PromptFailed
from pack_graphs import blended, picture, plain, seen

NONE = ("--cache-none",)
MODES = [(), ("--cache-classic",), ("--cache-lru", "2"), NONE]
DEPTH = 29  # decoder layers to -8, Z-Image's layer with pictures, of the tiny model's 36


@pytest.fixture(scope="module", params=MODES, ids=lambda args: " ".join(args) or "default")
def host(request, start_comfy):
    """One server per cache mode; those that no other file uses end with this one's tests."""
    kept = request.param in MODES[:2]
    server = start_comfy(*request.param, fresh=not kept)
    yield server
    if not kept:
        server.stop()


def forgets(host) -> bool:
    """Whether every node runs in every prompt."""
    return host.args == NONE


class Cost:
    """A prompt's result, and how often decoder layers and the vision tower ran for it."""

    def __init__(self, host, prompt):
        host.reset_module_calls()
        self.result = host.run(prompt)
        self.layers = host.module_calls("DecoderLayer")
        self.towers = host.module_calls("VisionModel")
        self.tensor = self.result.dump("dump")[0].tensor


def near(ours: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal to 1e-4 of the largest value: a reused prefix and a fresh run round differently."""
    return bool((ours - expected).abs().max() <= 1e-4 * expected.abs().max())


EDITS = [
    {"alpha": 0.7},
    {"keep": "prompt"},
    {"mode": "robust"},
    {"strength": 0.5},
    {"layers": "12"},
    {"layers": "9, 18, 27"},
    {"layers": "-8"},
]


# Each test has a picture of its own colour: a known picture is not looked at again.


def test_an_edit_behind_the_encoder_runs_no_decoder_layer(host):
    def prompt(**edit):
        return blended("behind the encoder", pictures=(picture(0x102030),), **edit)

    first = Cost(host, prompt())
    assert (first.layers, first.towers) == (DEPTH, 1)
    again = DEPTH if forgets(host) else 0
    for edit in EDITS:
        edited = Cost(host, prompt(**edit))
        assert edited.layers == again, edit
        # -8 is what auto means; everything else changes the result.
        assert torch.equal(edited.tensor, first.tensor) == (edit == {"layers": "-8"}), edit
        assert ("encode" in edited.result.executed) == forgets(host)
    last = Cost(host, prompt())
    assert last.layers == again
    assert torch.equal(last.tensor, first.tensor)


def test_every_layer_is_the_librarys(host, oracle):
    states = oracle.encode("every layer", [plain(0x405060)], target="z-image")
    for layers, number in (("auto", -8), ("3", 3), ("28", 28)):
        prompt = seen("every layer", picture(0x405060))
        prompt["layer"]["inputs"]["layers"] = layers
        assert near(Cost(host, prompt).tensor, states.layer(number))


def test_another_prompt_reuses_what_is_known_of_the_picture(host, oracle):
    color, other = 0x708090, "a boat at sea, from above"
    assert Cost(host, seen("a red house", picture(color))).towers == 1
    changed = Cost(host, seen(other, picture(color)))
    assert changed.layers == DEPTH  # each once, for the new words only
    assert changed.towers == (1 if forgets(host) else 0)
    assert ("reused" in changed.result.text("encode")) == (not forgets(host))
    assert near(changed.tensor, oracle.encode(other, [plain(color)], target="z-image").layer(-8))


def test_a_deeper_layer_runs_only_the_layers_in_between(host, oracle):
    color = 0xA0B0C0
    prompt = seen("deeper", picture(color))
    assert Cost(host, prompt).layers == DEPTH
    prompt["layer"]["inputs"]["layers"] = "-2"
    if forgets(host):
        # The model is let go of before the gate runs.
        with pytest.raises(PromptFailed, match="Set `depth` on VLM Encode to 35") as caught:
            host.run(prompt)
        assert (caught.value.node, caught.value.kind) == ("layer", "ValueError")
        prompt["encode"]["inputs"]["depth"] = "-2"
    deeper = Cost(host, prompt)
    assert (deeper.layers, deeper.towers) == ((35, 1) if forgets(host) else (35 - DEPTH, 0))
    assert near(deeper.tensor, oracle.encode("deeper", [plain(color)], target="z-image").layer(-2))
    prompt["layer"]["inputs"]["layers"] = "20"
    assert Cost(host, prompt).layers == (35 if forgets(host) else 0)
