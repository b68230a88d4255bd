"""Conversation Turn, and pictures where the words name them, in a real ComfyUI."""

from __future__ import annotations

import pytest
from graphs import node
from pack_graphs import dump, loader, picture, plain
from refusals import change, failed, refused
from test_encode import near

import vlm

RED, BLUE = 0xBB3322, 0x2233BB
NAMED = "where named in the prompt"


def talking(**encode):
    """VLM Loader, two Conversation Turns, VLM Encode → Hidden Layer Select → dump."""
    settings = {"prompt": "Paint that", "target": "z-image", "conversation": ["second", 0]}
    return {
        "vlm": loader(),
        "picture": picture(RED),
        "first": node(
            "VLMCTurn", prompt="What is it?", answer="A dog.", images__image0=["picture", 0]
        ),
        "second": node(
            "VLMCTurn", prompt="What does it do?", answer="It runs.", conversation=["first", 0]
        ),
        "encode": node("VLMCEncode", model=["vlm", 0], **settings | encode),
        "layer": node(
            "VLMCHiddenLayerSelect", hidden_states=["encode", 0], layers="auto", combine="auto"
        ),
        "dump": dump("layer"),
    }


def talk():
    """The same in the library."""
    c = vlm.Conversation().user("What is it?", [plain(RED)]).assistant("A dog.")
    return c.user("What does it do?").assistant("It runs.")


def test_all_turns_are_in_what_the_sampler_reads(comfy, oracle):
    result = comfy.run(talking())
    h = oracle.encode("Paint that", conversation=talk(), target="z-image")
    (entry,) = result.dump("dump")
    assert near(entry.tensor, h.layer(-8))
    assert entry.options["vlm_tokens"] == h.token_map and h.token_map["version"] == 2
    assert result.text("second") == "turn 2" and ", 3 turns" in result.text("encode")


def test_a_rewriting_goes_on_and_a_filter_keeps_a_turn(comfy, oracle):
    prompt = talking()
    prompt["encode"] = node(
        "VLMCRewrite", model=["vlm", 0], prompt="Paint that", target="z-image",
        preset="reasoning", max_tokens=6, temperature=0.0, seed=0, conversation=["second", 0],
    )  # fmt: skip
    prompt["filter"] = node("VLMCTokenFilter", tokens=["layer", 0], keep="generated", turns="2")
    result = comfy.run(prompt | {"dump": dump("filter")})
    from vlm.prompts.rewrite_prompts import find_system

    made = oracle.rewrite(
        "Paint that", conversation=talk(), target="z-image", system=find_system("reasoning"),
        max_tokens=6, temperature=0,
    )  # fmt: skip
    kept = vlm.filter_tokens(vlm.select_layers(made.states), "generated", turns=2)
    (entry,) = result.dump("dump")
    assert near(entry.tensor, kept.states) and entry.tensor.shape[1] == made.tokens


def test_pictures_stand_where_the_words_name_them(comfy, oracle):
    words = "a dog like <image2> before <image1>"
    prompt = talking(
        prompt=words, image_placement=NAMED, images__image0=["picture", 0],
        images__image1=["other", 0],
    )  # fmt: skip
    del prompt["encode"]["inputs"]["conversation"], prompt["first"], prompt["second"]
    (entry,) = comfy.run(prompt | {"other": picture(BLUE)}).dump("dump")
    h = oracle.encode(words, [plain(RED), plain(BLUE)], target="z-image", placed=True)
    assert near(entry.tensor, h.layer(-8))
    assert entry.options["vlm_tokens"] == h.token_map and h.prompt.seen == (1, 0)


def test_image_prompt_leaves_out_the_name_of_a_picture_that_does_not_count(comfy, oracle):
    """On Z-Image the picture is looked at with its name in the words, which are encoded without."""
    graph = {
        "vlm": loader(),
        "picture": picture(RED),
        "chain": node("VLMCPicture", image=["picture", 0], strength=1.0, keep="picture"),
        "made": node(
            "VLMCImagePrompt", model=["vlm", 0], prompt="a dog like <image1> at sea",
            target="z-image", pictures=["chain", 0], image_placement=NAMED,
        ),
        "dump": dump("made"),
    }  # fmt: skip
    (entry,) = comfy.run(graph).dump("dump")
    words = vlm.select_layers(oracle.encode("a dog like at sea", target="z-image"))
    assert entry.tensor.shape[1] == words.n
    off = change(graph, "made", image_placement="target's")
    (named,) = comfy.run(off).dump("dump")
    assert named.tensor.shape[1] > words.n


@pytest.mark.parametrize(
    ("at", "inputs", "words"),
    [
        ("second", {"answer": "  "}, "answer on Conversation Turn is empty"),
        ("second", {"prompt": ""}, "This turn says nothing"),
        ("encode", {"template": "raw"}, "has no turns"),
        ("encode", {"prompt": "a <image9>", "image_placement": NAMED}, "name <image9>"),
    ],
)
def test_what_cannot_be(comfy, at, inputs, words):
    graph = talking()
    graph[at]["inputs"].update(inputs)
    assert words in failed(comfy, graph, at)


def test_other_things_on_its_wires(comfy):
    told = refused(comfy, talking(conversation=["vlm", 0])).details("encode")
    assert any("VLMC_CONVERSATION" in detail for detail in told)
    assert refused(comfy, talking(image_placement="elsewhere")).details("encode")
