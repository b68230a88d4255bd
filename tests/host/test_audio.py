"""A sound in a real ComfyUI: Load Audio, then every node that takes one, and what cannot be."""

from __future__ import annotations

import json
import shutil

import pytest
from graphs import node
from pack_graphs import dump, loader, picture, plain
from refusals import failed, refused
from sound_file import write_sound
from test_encode import near

import vlm
from vlm.sounds.sound_files import read_sound

OMNI = "VLM/Qwen2.5-Omni-3B"
RED = 0xBB3322
WEIGHTS = {"AudioTower", "LanguageModel", "VisionTower"}


@pytest.fixture(scope="module")
def host(flux_connectors, comfy):
    """A server with a stereo sound of another rate in input/."""
    write_sound(comfy.base / "input" / "bell.wav", 30000)
    return comfy


@pytest.fixture(scope="module")
def hearing(flux_connectors):
    """The same model in the library."""
    return vlm.load(flux_connectors / "VLM" / "Qwen2.5-Omni-3B", dtype="float32")


def heard(**encode):
    """Load Audio and VLM Loader into VLM Encode, all layers' gate, dump."""
    settings = {"prompt": "Paint what you hear", "target": "chat", "audio": ["sound", 0]}
    return {
        "vlm": loader(OMNI),
        "sound": node("LoadAudio", audio="bell.wav"),
        "encode": node("VLMCEncode", model=["vlm", 0], **settings | encode),
        "layer": node(
            "VLMCHiddenLayerSelect", hidden_states=["encode", 0], layers="-1", combine="auto"
        ),
        "dump": dump("layer"),
    }


def samples(host):
    return read_sound(host.base / "input" / "bell.wav")


def test_what_the_sampler_reads_is_the_librarys(host, hearing):
    result = host.run(heard())
    h = hearing.encode("Paint what you hear", audio=samples(host))
    (entry,) = result.dump("dump")
    assert near(entry.tensor, vlm.select_layers(h, "-1").states)
    assert entry.options["vlm_tokens"] == h.token_map and h.token_map["version"] == 3
    assert f"{h.prompt.sounds[0].tokens} audio" in result.text("encode")


def test_picture_sound_and_a_turn_with_a_sound(host, hearing):
    graph = heard(images__image0=["picture", 0], conversation=["turn", 0])
    graph["picture"] = picture(RED)
    graph["turn"] = node("VLMCTurn", prompt="And this?", answer="A bell.", audio=["sound", 0])
    (entry,) = host.run(graph).dump("dump")
    talk = vlm.Conversation().user("And this?", audio=samples(host)).assistant("A bell.")
    h = hearing.encode("Paint what you hear", [plain(RED)], audio=samples(host), conversation=talk)
    assert near(entry.tensor, vlm.select_layers(h, "-1").states)
    assert entry.options["vlm_tokens"] == h.token_map


def test_an_answer_to_a_sound_and_a_filter_that_keeps_it(host, hearing):
    graph = heard()
    graph["encode"] = node(
        "VLMCRewrite", model=["vlm", 0], prompt="What is it?", target="chat", preset="caption",
        system="Say it.", max_tokens=6, temperature=0.0, seed=0, audio=["sound", 0],
    )  # fmt: skip
    graph["filter"] = node("VLMCTokenFilter", tokens=["layer", 0], keep="audio")
    (entry,) = host.run(graph | {"dump": dump("filter")}).dump("dump")
    made = hearing.rewrite(
        "What is it?", audio=samples(host), system="Say it.", max_tokens=6, temperature=0
    )
    kept = vlm.filter_tokens(vlm.select_layers(made.states, "-1"), "audio")
    assert near(entry.tensor, kept.states)
    assert entry.tensor.shape[1] == made.states.prompt.sounds[0].tokens


def test_the_part_that_hears_is_comfyuis_to_move(host):
    host.free()
    host.run(heard(prompt="Paint it anew", images__image0=["picture", 0]) | {"picture": picture(1)})
    assert set(host.loaded_models()) == WEIGHTS
    host.free(unload_models=True, free_memory=False)
    assert host.loaded_models() == []
    host.run(heard(prompt="Paint it once more"))
    # The sound is known, so that the part that hears can stay away.
    assert host.loaded_models() == ["LanguageModel"]


def test_a_model_that_does_not_hear_says_so(host):
    graph = heard()
    graph["vlm"] = loader("VLM/Qwen2.5-VL-7B-Instruct")
    assert "does not hear, and a sound was given" in failed(host, graph, "encode")


def test_an_empty_sound(host):
    graph = heard()
    graph["sound"] = node("EmptyAudio", duration=0.0, sample_rate=44100, channels=2)
    said = failed(host, graph, "encode")
    assert "is empty" in said and "0.03 seconds" in said


def test_another_thing_on_the_wire(host):
    told = refused(host, heard(audio=["vlm", 0])).details("encode")
    assert any("audio" in one for one in told)


def test_a_folder_of_the_thinker_alone_is_listed_and_runs(host, flux_connectors, hearing):
    """As transformers saves it: config.json is that of the part which is run."""
    whole = flux_connectors / "VLM" / "Qwen2.5-Omni-3B"
    alone = shutil.copytree(whole, flux_connectors / "VLM" / "thinker")
    try:
        config = json.loads((whole / "config.json").read_text())["thinker_config"]
        (alone / "config.json").write_text(json.dumps(config))
        graph = heard()
        graph["vlm"] = loader("VLM/thinker")
        (entry,) = host.run(graph).dump("dump")
        h = hearing.encode("Paint what you hear", audio=samples(host))
        assert near(entry.tensor, vlm.select_layers(h, "-1").states)
    finally:
        shutil.rmtree(alone)
