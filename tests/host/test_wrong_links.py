"""Links that do not fit, as the HTTP API lets them through: each answered in words."""

from __future__ import annotations

import pytest
from graphs import node
from pack_graphs import conditioning, dump, sampled, seen, through_filter
from refusals import change, failed, refused

HIDDEN = (
    "These are hidden states, not CONDITIONING; put Hidden Layer Select, LAP Pool or Connector "
    "Apply before the sampler."
)


def test_hidden_states_on_a_sampler(comfy):
    prompt = seen("a wrong link")
    del prompt["dump"]  # an output that is right would run, and the answer be 200
    error = refused(comfy, sampled(prompt, "encode") | {"negative": conditioning()})
    assert error.node_errors["sampler"]["errors"][0]["type"] == "return_type_mismatch"
    prompt |= {"filter": through_filter("encode")}
    sampler = sampled(prompt, "filter") | {"negative": conditioning()}
    assert failed(comfy, sampler, "sampler", "TypeError").startswith(HIDDEN)


NATIVE = {
    "range": node("ConditioningSetTimestepRange", conditioning=["filter", 0], start=0.0, end=0.5),
    "zero": node("ConditioningZeroOut", conditioning=["filter", 0]),
    "concat": node(
        "ConditioningConcat", conditioning_to=["words", 0], conditioning_from=["filter", 0]
    ),
    "combine": node(
        "ConditioningCombine", conditioning_1=["words", 0], conditioning_2=["filter", 0]
    ),
    "combine (first)": node(
        "ConditioningCombine", conditioning_1=["filter", 0], conditioning_2=["words", 0]
    ),
}


@pytest.mark.parametrize("name", NATIVE)
def test_hidden_states_on_a_native_node(comfy, name):
    prompt = seen("a wrong link") | {
        "filter": through_filter("encode"),
        "words": conditioning(),
        name: NATIVE[name],
        "out": dump(name),
    }
    assert failed(comfy, prompt, name, "TypeError").startswith(HIDDEN)


OURS = {
    "Alpha Blend": node(
        "VLMCAlphaBlend", text=["words", 0], picture=["filter", 0], alpha=0.3,
        method="interpolate",
    ),
    "Per-dim Normalize": node(
        "VLMCPerDimNormalize", conditioning=["words", 0], mode="global", strength=1.0,
        reference=["filter", 0],
    ),
    "Time Hand-over": node(
        "VLMCTimeHandover", first=["filter", 0], second=["words", 0], percent=0.5
    ),
    "Style Delta": node(
        "VLMCStyleDelta", text=["words", 0], styled=["filter", 0], neutral=["words", 0], alpha=0.3
    ),
}  # fmt: skip
SOCKET = {"Alpha Blend": "picture", "Per-dim Normalize": "reference"} | {
    "Time Hand-over": "first", "Style Delta": "styled",
}  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_hidden_states_on_a_node_for_conditioning(comfy, name):
    prompt = seen("a wrong link") | {
        "filter": through_filter("encode"),
        "words": conditioning(),
        name: OURS[name],
        "out": dump(name),
    }
    text = failed(comfy, prompt, name, "TypeError")
    assert f"{SOCKET[name]} on {name} needs CONDITIONING, this is hidden states" in text
    assert "Put Hidden Layer Select" in text


def test_conditioning_on_hidden_layer_select(comfy):
    prompt = seen("a wrong link") | {"words": conditioning(), "filter": through_filter("words")}
    direct = refused(comfy, change(prompt, "layer", hidden_states=["words", 0]))
    assert direct.node_errors["layer"]["errors"][0]["type"] == "return_type_mismatch"
    filtered = change(prompt, "layer", hidden_states=["filter", 0])
    text = failed(comfy, filtered, "layer", "TypeError")
    assert "hidden_states on Hidden Layer Select" in text and "CONDITIONING" in text


def test_a_model_on_token_filter(comfy):
    prompt = {"model": node("TestTinyZImage", width=64), "filter": through_filter("model")}
    text = failed(comfy, prompt | {"out": dump("filter")}, "filter", "TypeError")
    assert "tokens on Token Filter" in text and "hidden states" in text


def test_conditioning_in_the_place_of_a_model(comfy):
    prompt = seen("a wrong link") | {"words": conditioning(), "filter": through_filter("words")}
    text = failed(comfy, change(prompt, "encode", model=["filter", 0]), "encode", "TypeError")
    assert "model on VLM Encode" in text and "VLM Loader" in text


def test_conditioning_in_the_place_of_statistics(comfy):
    prompt = {
        "words": conditioning(),
        "filter": through_filter("words"),
        "normal": node(
            "VLMCPerDimNormalize", conditioning=["words", 0], mode="global", strength=1.0,
            stats=["filter", 0],
        ),
        "out": dump("normal"),
    }  # fmt: skip
    text = failed(comfy, prompt, "normal", "TypeError")
    assert "reference statistics" in text and "VLM Reference Statistics" in text
