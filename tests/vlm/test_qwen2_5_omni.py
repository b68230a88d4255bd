"""Qwen2.5-Omni: beside the family's own processor and class, sounds in every place."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from hugging_face import pil_processor
from rounding import rounding
from safetensors.torch import load_file, save_file
from test_every_family import Reference, noise
from test_sounds import tone, write_wav

import vlm
from vlm import cli
from vlm.batch.jobs import Provenance, read_jobs
from vlm.batch.recipe import Recipe
from vlm.conditioning.file import load_about, load_conditioning
from vlm.families import FAMILIES as KNOWN
from vlm.pictures.media_files import read_picture
from vlm.token_map import WITH_SOUNDS, audio_column, count_roles, map_text, read_map, turn_column
from vlm.weights.folder import read_config

FAMILY, LAYERS, RATE = "qwen2_5_omni", 6, 16000
TEXT = "Paint what you hear."


class Processor:
    """The family's own processor, and its class fed with what it makes."""

    def __init__(self, folder):
        auto = transformers
        tokenizer = auto.AutoTokenizer.from_pretrained(str(folder))
        config = json.loads((folder / "preprocessor_config.json").read_text())
        bounds = {name: config[name] for name in ("min_pixels", "max_pixels")}
        hearing = auto.WhisperFeatureExtractor.from_pretrained(str(folder))
        # It insists on a video processor, which needs torchvision.
        skip = {"check_argument_for_proper_class": lambda self, name, value: None}
        kind = type("Qwen2_5OmniProcessor", (auto.Qwen2_5OmniProcessor,), skip)
        images = pil_processor(folder, **bounds)
        self.processor = kind(
            images, None, hearing, tokenizer, chat_template=tokenizer.chat_template
        )

    def inputs(self, messages, pictures=(), sounds=()):
        """What it makes of messages, as tensors."""
        text = self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        given = {"images": list(pictures)} if pictures else {}
        given |= {"audio": list(sounds), "sampling_rate": RATE} if sounds else {}
        return dict(self.processor(text=[text], **given, return_tensors="pt", padding=True))


@pytest.fixture(scope="module")
def omni(tmp_path_factory):
    """A toy model, its reference and its processor."""
    from vlm.tiny.folder import write_tiny

    folder = write_tiny(tmp_path_factory.mktemp("omni") / FAMILY, FAMILY, layers=LAYERS)
    model = vlm.load(folder, dtype="float32")
    return model, Reference(folder, KNOWN[FAMILY]), Processor(folder), folder


def user(*parts, text=TEXT):
    content = [{"type": kind, kind: "x"} for kind in parts]
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]


def class_states(reference, inputs):
    """The class's own layers on the processor's own tensors."""
    reference.inputs = lambda states: inputs
    try:
        return reference.streams(None)
    finally:
        del reference.inputs


SOUNDS = {
    "a sine": tone(1.3, RATE),
    "silence": np.zeros(RATE, np.float32),
    "noise": noise(0.51, RATE).numpy(),
    "three chunks": tone(4.9, RATE, 300.0) * 0.2,
}


# --- beside the processor and the class


@pytest.mark.parametrize("name", SOUNDS)
def test_ids_spectrum_and_states_of_a_sound(omni, err, name):
    model, reference, processor, _ = omni
    model.prefix_cache.clear()
    inputs = processor.inputs(user("audio"), sounds=[SOUNDS[name]])
    h = model.encode(TEXT, audio=(SOUNDS[name], RATE))
    assert list(h.prompt.ids) == inputs["input_ids"][0].tolist()
    there = int(inputs["feature_attention_mask"].sum())
    found = h.prompt.sounds[0].spectrum()
    assert found.shape[1] == there
    assert (found - inputs["input_features"][0, :, :there]).abs().max() <= 1e-6
    for layer, stream in enumerate(class_states(reference, inputs)):
        assert err(h.layer(layer), stream) <= rounding(layer)


def test_two_sounds_two_pictures_and_turns(omni, err, picture):
    model, reference, processor, _ = omni
    model.prefix_cache.clear()
    sounds, pictures = list(SOUNDS.values())[:2], [picture(90, 150), picture(64, 64, 1)]
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "You paint."}]},
        *user("image", "audio", text="What is this?"),
        {"role": "assistant", "content": [{"type": "text", "text": "A bell."}]},
        *user("image", "audio"),
    ]
    inputs = processor.inputs(messages, pictures, sounds)
    talk = vlm.Conversation().user("What is this?", pictures[0], audio=(sounds[0], RATE))
    h = model.encode(
        TEXT, pictures[1], system="You paint.", audio={"waveform": sounds[1], "sample_rate": RATE},
        conversation=talk.assistant("A bell."), min_pixels=3136,
    )  # fmt: skip
    assert list(h.prompt.ids) == inputs["input_ids"][0].tolist()
    for layer, stream in enumerate(class_states(reference, inputs)):
        assert err(h.layer(layer), stream) <= rounding(layer)
    # The map tells sounds, their turns and their times.
    column, roles = audio_column(h.token_map), h.token_map["role"]
    assert [n for n in dict.fromkeys(column) if n >= 0] == [0, 1]
    turns = {n: {t for c, t in zip(column, turn_column(h.token_map), strict=True) if c == n}
             for n in (0, 1)}  # fmt: skip
    assert turns == {0: {0}, 1: {1}}
    times = [t for t, role, n in zip(h.token_map["time"], roles, column, strict=True)
             if role == "audio" and n == 1]  # fmt: skip
    assert times == [40 * at for at in range(25)]
    assert h.token_map["version"] == WITH_SOUNDS
    assert count_roles(h.token_map)["audio_marker"] == 4


def test_ten_minutes(omni, err, caplog):
    """The processor hears five of them, and so do we; of the class the towers are compared."""
    model, reference, processor, _ = omni
    long = noise(600, RATE).numpy()
    inputs = processor.inputs(user("audio"), sounds=[long])
    h = model.encode(TEXT, audio=(long, RATE))
    assert "hears the first 300" in caplog.text
    assert list(h.prompt.ids) == inputs["input_ids"][0].tolist()
    assert count_roles(h.token_map)["audio"] == 7500
    assert h.token_map["time"][h.token_map["role"].index("text") - 2] == 299960
    spectrum = h.prompt.sounds[0].spectrum()
    assert (spectrum - inputs["input_features"][0]).abs().max() <= 1e-6
    with torch.no_grad():
        found = model.backbone.encode_audio(spectrum)
        towers = getattr(reference.model.model, "audio_tower", None) or reference.model.audio_tower
        lens = torch.tensor([30000])
        want = towers(spectrum, feature_lens=lens, aftercnn_lens=(lens - 1) // 2 + 1)
    assert err(found, want.last_hidden_state) <= 1e-6


def test_a_stereo_file_of_another_rate(omni, err, tmp_path):
    model, _, _, _ = omni
    both = np.stack([tone(1.0, 44100), tone(1.0, 44100)]) * 0.5
    file = write_wav(tmp_path / "a.wav", both, 44100)
    h = model.encode(TEXT, audio=str(file))
    straight = model.encode(TEXT, audio=(tone(1.0, RATE) * 0.5, RATE))
    assert h.prompt.ids == straight.prompt.ids
    assert err(h.layer(-1), straight.layer(-1)) < 0.05  # it was 16 bits, at another rate


def test_it_writes_what_generate_writes_of_a_sound(omni):
    model, reference, processor, _ = omni
    sound = SOUNDS["a sine"]
    inputs = processor.inputs(user("audio"), sounds=[sound])
    with torch.no_grad():
        out = reference.model.generate(**inputs, max_new_tokens=10, do_sample=False)
    stops = model.tokenizer.find(*model.family.stop_tokens)
    want = [n for n in out[0, inputs["input_ids"].shape[1] :].tolist() if n not in stops]
    found = model.rewrite(TEXT, audio=(sound, RATE), system="", max_tokens=10, temperature=0)
    ids = found.states.prompt.ids
    assert list(ids[inputs["input_ids"].shape[1] :]) == want


# --- a video with its sound


FILMS = {  # frames, frames per second, seconds of the sound
    "as long as its sound": (10, 2.0, 5.0),
    "longer than its sound": (12, 2.0, 1.3),
    "shorter than its sound": (4, 2.0, 6.6),
    "of a moment": (2, 2.0, 0.1),
    "one look in two seconds": (8, 0.5, 9.0),
}


def written(processor, film, sound):
    """What the family's own processor puts in a video's place."""
    own, grid = processor.processor, (film.frames, film.rows * 2, film.cols * 2)
    own.video_processor = SimpleNamespace(merge_size=2)
    if hasattr(own, "replace_video_with_audio_token"):
        videos = {
            "video_grid_thw": torch.tensor([grid]),
            "video_second_per_grid": [film.seconds_per_grid],
        }
        heard = {"num_audio_tokens": torch.tensor([sound.tokens])}
        return own.replace_video_with_audio_token(
            videos, 0, heard, 0, position_id_per_seconds=25, seconds_per_chunk=2.0
        )
    text = f"{own.vision_bos_token}{own.video_token}{own.vision_eos_token}"
    (made,) = own.replace_multimodal_special_tokens(
        [text], iter([sound.tokens]), iter([]), iter(torch.tensor([grid])),
        iter([film.seconds_per_grid]), True, 25, 2.0,
    )  # fmt: skip
    return made.removeprefix(own.vision_bos_token).removesuffix(own.vision_eos_token)


@pytest.mark.parametrize("name", FILMS)
def test_a_sound_between_the_frames_of_its_video(omni, err, picture, name):
    model, reference, processor, _ = omni
    model.prefix_cache.clear()
    count, fps, seconds = FILMS[name]
    frames = [picture(64, 96, seed) for seed in range(count)]
    sounds = [(noise(seconds, RATE), RATE), (tone(0.4, RATE), RATE)]
    h = model.encode(
        TEXT, [picture(64, 64, 9)], video=frames, fps=fps, max_pixels=64 * 96, audio=sounds,
        audio_in_video=True,
    )  # fmt: skip
    film, text = h.prompt.vision_inputs[1], model.tokenizer.text_of(list(h.prompt.ids))
    between = text.split("<|vision_bos|>")[2].split("<|vision_eos|>")[0]
    assert between == written(processor, film, h.prompt.sounds[0])
    inputs = reference.inputs(h) | {"use_audio_in_video": True}
    for layer, stream in enumerate(class_states(reference, inputs)):
        assert err(h.layer(layer), stream) <= rounding(layer)
    # Nothing of it is lost: every frame's grid and every token of the sound, each with its time.
    column, roles = audio_column(h.token_map), h.token_map["role"]
    own = [t for t, role, n in zip(h.token_map["time"], roles, column, strict=True)
           if role == "audio" and n == 0]  # fmt: skip
    assert own == [40 * at for at in range(h.prompt.sounds[0].tokens)]
    frames_seen = [
        f for f, role, n in zip(h.token_map["frame"], roles, h.token_map["image"], strict=True)
        if role == "image" and n == 1
    ]  # fmt: skip
    assert frames_seen == sorted(frames_seen) and len(frames_seen) == film.frames * 3 * 4
    # Behind it the words go on, and the beginning is known the next time.
    again = model.encode(
        "Other words", [picture(64, 64, 9)], video=frames, fps=fps, max_pixels=64 * 96,
        audio=sounds, audio_in_video=True, depth=-1,
    )  # fmt: skip
    assert again.reused_tokens == list(h.token_map["role"]).index("text")


def test_a_film_of_an_earlier_turn_and_one_that_lacks_a_half(omni, err, picture):
    model, reference, *_ = omni
    frames = [picture(64, 96, seed) for seed in range(4)]
    film = {"video": frames, "fps": 2.0, "audio": (tone(2.2, RATE), RATE), "audio_in_video": True}
    talk = vlm.Conversation().user("What is it?", **film).assistant("A bell.")
    h = model.encode(TEXT, conversation=talk, **film)
    inputs = reference.inputs(h) | {"use_audio_in_video": True}
    for layer, stream in enumerate(class_states(reference, inputs)):
        assert err(h.layer(layer), stream) <= rounding(layer)
    for lack in ("video", "audio"):
        with pytest.raises(ValueError, match=f"`{lack}` is not given"):
            model.encode(TEXT, **{**film, lack: None})


# --- what it is for


def test_other_sounds_are_other_states_and_words_see_them(omni, err):
    """By how much the words behind them change, beside another word's change: it is heard."""
    model, *_ = omni

    def words(text, audio):
        h = model.encode(text, audio=audio)
        return h.layer(-1)[0, -6:]

    bell, wind = (tone(1.0, RATE, 880.0), RATE), (noise(1.0, RATE), RATE)
    heard = err(words(TEXT, bell), words(TEXT, wind))
    typed = err(words(TEXT, bell), words("Paint what you see.", bell))
    assert heard > 0.1 * typed > 0


def test_a_sound_is_heard_once(omni, monkeypatch):
    model, *_ = omni
    model.prefix_cache.clear()
    ran = []
    tower = model.backbone.hearing
    hook = tower.register_forward_pre_hook(lambda *_: ran.append(1))
    try:
        sound = (tone(1.1, RATE), RATE)
        model.encode("A", audio=[sound, sound], depth=-1)
        assert len(ran) == 1
        h = model.encode("Another", audio=[sound, sound], depth=-1)
        assert len(ran) == 1 and h.reused_tokens > 50  # all before the words
        talk = vlm.Conversation().user("A", audio=sound).assistant("B.")
        model.encode("C", conversation=talk, audio=sound, depth=-1)
        assert len(ran) == 1
    finally:
        hook.remove()


def test_filter_keeps_sounds_or_leaves_them_out(omni):
    model, *_ = omni
    h = model.encode(TEXT, audio=(tone(1.0, RATE), RATE))
    only = vlm.filter_tokens(h, keep="audio")
    assert only.n == 25 and set(only.token_map["role"]) == {"audio"}
    assert only.token_map["time"] == [40 * at for at in range(25)]
    rest = vlm.filter_tokens(h, keep="text")
    assert rest.n == h.n - 27 and not {"audio", "audio_marker"} & set(rest.token_map["role"])
    assert rest.token_map["version"] == 1  # as before there were sounds
    assert read_map(map_text(h.token_map), h.n) == h.token_map


def test_the_x2i_papers_audio_prompt(omni):
    model, *_ = omni
    for audio, said in ((None, "no"), ((tone(1.0, RATE), RATE), "yes")):
        h = model.encode("A dog", template="x2i-paper", audio=audio, padding="none")
        written = model.tokenizer.text_of(
            [n for n, role in zip(h.prompt.ids, h.token_map["role"], strict=True)
             if role in ("template", "text")]
        )  # fmt: skip
        assert f"'audio prompt': '{said}'}}" in written and "'image prompt': 'no'" in written


@pytest.mark.parametrize("template", ["raw", "z-image", "qwen-image", "x2i"])
def test_every_kind_of_template_has_a_place_for_sounds(omni, template, picture):
    model, *_ = omni
    h = model.encode("A dog", picture(64, 64), template=template, audio=(tone(1.0, RATE), RATE))
    roles = count_roles(h.token_map)
    assert roles["audio"] == 25 and roles["audio_marker"] == 2 and roles["image"] > 0
    order = h.token_map["role"]
    assert order.index("image") < order.index("audio") < order.index("text")


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
