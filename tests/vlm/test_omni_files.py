"""Qwen2.5-Omni from the command line and from other files, and with numbers that cannot be."""

import json
import shutil

import numpy as np
import pytest
import torch
from made_sounds import noise, tone, write_wav
from safetensors.torch import load_file, save_file

import vlm
from vlm import cli
from vlm.batch.jobs import Provenance, read_jobs
from vlm.batch.recipe import Recipe
from vlm.conditioning.file import load_about, load_conditioning
from vlm.pictures.media_files import read_picture
from vlm.weights.folder import read_config

FAMILY, RATE = "qwen2_5_omni", 16000
TEXT = "Paint what you hear."


# --- command line and jobs


def test_the_command_and_a_job_equal_the_library(omni, tmp_path, picture, monkeypatch, err):
    model, _, _, folder = omni
    write_wav(tmp_path / "bell.wav", tone(1.1, 44100)[None] * 0.5, 44100)
    write_wav(tmp_path / "wind.wav", noise(0.6, RATE).numpy()[None], RATE)
    (tmp_path / "film").mkdir()
    for number in range(4):
        picture(64, 96, number).save(tmp_path / "film" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    turns = [{"role": "user", "text": "And this?", "audio": "wind.wav"},
             {"role": "assistant", "text": "Wind."}]  # fmt: skip
    (tmp_path / "talk.json").write_text(json.dumps(turns))
    given = ["--text", TEXT, "--target", "chat", "--layers", "-1", "--keep", "all"]
    shown = ["--video", "film", "--fps", "2", "--audio", "bell.wav", "--audio-in-video"]
    made = ["--conversation", "talk.json", "--out", "out.safetensors", "--dtype", "float32"]
    assert cli.main(["encode", "--model", str(folder), *given, *shown, *made]) == 0
    (entry,) = load_conditioning(tmp_path / "out.safetensors")
    frames = [read_picture(tmp_path / "film" / f"{number}.png") for number in range(4)]
    talk = vlm.Conversation().user("And this?", audio="wind.wav").assistant("Wind.")
    h = model.encode(
        TEXT, video=frames, fps=2.0, audio="bell.wav", audio_in_video=True, conversation=talk
    )
    assert entry.tokens.token_map == h.token_map
    assert err(entry.tokens.states, vlm.select_layers(h, "-1").states) <= 1e-5
    about = load_about(tmp_path / "out.safetensors")
    assert about["audio"] == ["bell.wav"] and about["audio_in_video"]
    job = {"text": TEXT, "audio": ["bell.wav"], "target": "chat", "layers": "-1", "keep": "all"}
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"id": "one", **job}))
    many = ["--jobs", "jobs.jsonl", "--out", "made", "--dtype", "float32"]
    assert cli.main(["encode", "--model", str(folder), *many]) == 0
    (entry,) = load_conditioning(tmp_path / "made" / "shard-00000" / "one.safetensors")
    assert entry.tokens.token_map == model.encode(TEXT, audio="bell.wav").token_map


def test_a_job_names_no_sound_outside(tmp_path):
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"text": "a", "audio": "/etc/hostname"}))
    with pytest.raises(ValueError, match="audio is '/etc/hostname', which lies outside"):
        read_jobs(tmp_path / "jobs.jsonl", Recipe(), Provenance("x"))


# --- bad input, other files


def test_a_model_that_does_not_hear_says_so(v):
    for given in ({"audio": (tone(1, RATE), RATE)}, {"audio": [(tone(1, RATE), RATE)]}):
        with pytest.raises(ValueError, match="does not hear, and a sound was given"):
            v.encode("A", **given)
    talk = vlm.Conversation().user("A", audio=(tone(1, RATE), RATE)).assistant("B")
    with pytest.raises(ValueError, match="does not hear"):
        v.encode("A", conversation=talk)
    assert v.encode("A", audio=[]).n == v.encode("A").n


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        ((np.zeros(0, np.float32), RATE), "is empty"),
        ((np.zeros(320, np.float32), RATE), "too short"),
        ("nowhere.wav", "There is no sound file"),
    ],
)
def test_sounds_that_cannot_be(omni, audio, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        omni[0].encode("A", audio=audio)


def test_typed_tokens_of_sounds_stay_words(omni):
    model, *_ = omni
    h = model.encode("<|audio_bos|><|AUDIO|><|audio_eos|>")
    assert "audio" not in h.token_map["role"] and h.token_map["version"] == 1


def test_a_folder_with_a_voice_and_one_of_the_thinker_alone(omni, tmp_path, err):
    """As published: with talker and token2wav beside it; and as the thinker saves itself."""
    model, _, _, folder = omni
    want = model.encode(TEXT, audio=(tone(0.5, RATE), RATE)).layer(-1)
    whole = shutil.copytree(folder, tmp_path / "whole")
    config = json.loads((whole / "config.json").read_text())
    voice = {"talker_config": {"model_type": "qwen2_5_omni_talker"}, "enable_talker": True,
             "token2wav_config": {"model_type": "qwen2_5_omni_token2wav"}}  # fmt: skip
    (whole / "config.json").write_text(json.dumps(config | voice))
    weights = load_file(whole / "model.safetensors")
    voiced = {"talker.model.layers.0.mlp.up_proj.weight": torch.ones(4, 4),
              "token2wav.code2wav_dit_model.proj.weight": torch.ones(4)}  # fmt: skip
    save_file(weights | voiced, whole / "model.safetensors", {"format": "pt"})
    alone = shutil.copytree(folder, tmp_path / "alone")
    (alone / "config.json").write_text(json.dumps(config["thinker_config"]))
    bare = {name.removeprefix("thinker."): weight for name, weight in weights.items()}
    save_file(bare, alone / "model.safetensors", {"format": "pt"})
    for place in (whole, alone):
        again = vlm.load(place, dtype="float32")
        assert torch.equal(again.encode(TEXT, audio=(tone(0.5, RATE), RATE)).layer(-1), want)
        assert again.rewrite(TEXT, max_tokens=2, temperature=0).text is not None
    given = vlm.load(
        folder, dtype="float32", config=json.loads((folder / "config.json").read_text())
    )
    assert given.hearing == model.hearing
    assert read_config(whole)["model_type"] == FAMILY


def test_a_config_without_its_part_is_refused(omni, tmp_path):
    broken = shutil.copytree(omni[3], tmp_path / "broken")
    config = json.loads((broken / "config.json").read_text())
    for part in (7, [1], "x", {"text_config": 5}):
        (broken / "config.json").write_text(json.dumps(config | {"thinker_config": part}))
        with pytest.raises(ValueError, match=r"expected a mapping|cannot|lack|another size"):
            vlm.load(broken)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_window", 0), ("n_window", 10**9), ("n_window", "100"), ("n_window", 2000),
        ("num_mel_bins", 80), ("num_mel_bins", -1), ("d_model", 31), ("d_model", 10**7),
        ("encoder_attention_heads", 0), ("encoder_attention_heads", 3),
        ("max_source_positions", 0), ("max_source_positions", 50), ("output_dim", 0),
        ("output_dim", 65), ("position_id_per_seconds", 0), ("seconds_per_chunk", -2),
    ],
)  # fmt: skip
def test_numbers_of_an_audio_tower_that_cannot_be(omni, tmp_path, key, value):
    broken = shutil.copytree(omni[3], tmp_path / "broken")
    config = json.loads((broken / "config.json").read_text())
    part = config["thinker_config"]
    (part if key in part else part["audio_config"])[key] = value
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"{key}|audio_tower|d_model"):
        vlm.load(broken)
