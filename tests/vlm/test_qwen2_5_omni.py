"""Qwen2.5-Omni: beside the family's own processor and class, sounds in every place."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_sounds import noise, tone, write_wav
from rounding import rounding

import vlm
from vlm.token_map import WITH_SOUNDS, audio_column, count_roles, map_text, read_map, turn_column

FAMILY, LAYERS, RATE = "qwen2_5_omni", 6, 16000
TEXT = "Paint what you hear."


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
