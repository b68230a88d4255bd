"""Sounds: every form that people have them in, what is refused, and Whisper's spectrum."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
import transformers
from made_sounds import tone, write_wav

from vlm.sounds.preprocessor import SoundPreprocessor, read_sound_preprocessor, tokens_of
from vlm.sounds.sound_files import read_sound
from vlm.sounds.waves import to_waves

RATE = 16000
RULES = SoundPreprocessor(128, RATE, 160, 300, 400)


# --- forms


def test_every_form_of_one_sound_is_the_same_wave(tmp_path):
    x = tone(0.2, RATE)
    file = write_wav(tmp_path / "a.wav", x[None], RATE, width=4)
    stereo = torch.from_numpy(np.stack([x, x]))
    forms = [
        (x, RATE), (x.tolist(), RATE), (torch.from_numpy(x), float(RATE)), (x[None], RATE),
        {"waveform": torch.from_numpy(x)[None, None], "sample_rate": RATE},
        {"waveform": stereo[None], "sample_rate": RATE}, [(x, RATE)],
        {"waveform": torch.from_numpy(x)[None, None].double(), "sample_rate": np.int64(RATE)},
    ]  # fmt: skip
    for form in forms:
        (found,) = to_waves(form, RATE)
        assert found.dtype == np.float32 and np.array_equal(found, x)
    for path in (str(file), Path(file)):
        (found,) = to_waves(path, RATE)
        assert np.abs(found - x).max() < 1e-7


def test_a_batch_is_several_sounds_and_a_list_keeps_its_order():
    batch = {"waveform": torch.arange(12.0).reshape(2, 2, 3) / 12, "sample_rate": RATE}
    first, second, third = to_waves([batch, (tone(0.1, RATE), RATE)], RATE)
    assert np.allclose(first, [1.5 / 12, 2.5 / 12, 3.5 / 12])
    assert np.allclose(second, [7.5 / 12, 8.5 / 12, 9.5 / 12])
    assert np.array_equal(third, tone(0.1, RATE))
    assert to_waves(None, RATE) == [] == to_waves([], RATE)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 44099, 192000])
def test_a_tone_of_another_rate_is_that_tone(rate):
    (found,) = to_waves((tone(1.0, rate), rate), RATE)
    assert abs(len(found) - RATE) <= 1
    want = tone(1.0, RATE)[: len(found)]
    inside = slice(800, -800)
    assert np.abs(found[inside] - want[inside]).max() < 2e-3


def test_what_the_lower_rate_cannot_hold_is_gone():
    """A tone above half the rate must not come back as another tone."""
    (found,) = to_waves((tone(1.0, 48000, 12000.0), 48000), RATE)
    assert np.abs(found[800:-800]).max() < 0.02


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_pcm_of_every_width(tmp_path, width):
    both = np.stack([tone(0.1, 44100), tone(0.1, 44100, 880.0)])
    samples, rate = read_sound(write_wav(tmp_path / "a.wav", both, 44100, width))
    assert rate == 44100 and samples.shape == both.shape and samples.dtype == np.float32
    assert np.abs(samples - both).max() <= 1.6 / 2 ** (8 * width - 1) + 1e-7


@pytest.mark.parametrize("kind", ["flac", "mp3", "ogg", "wav"])
def test_files_that_are_no_pcm(tmp_path, kind):
    codec = {"flac": "flac", "mp3": "mp3", "ogg": "libopus", "wav": "pcm_f32le"}[kind]
    rate = 48000
    file, x = tmp_path / f"a.{kind}", tone(1.0, rate) * 0.5
    with av.open(str(file), "w") as out:
        stream = out.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.stack([x, x]), format="fltp", layout="stereo")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "stereo", rate, stream.frame_size or None)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    samples, found = read_sound(file)
    assert found == rate and samples.shape[0] == 2, (found, samples.shape)
    # Some begin a little later; the tone is there, as loud as it was.
    middle = samples[0, 10000:30000]
    assert abs(float(np.sqrt((middle**2).mean())) - 0.5 / 2**0.5) < 0.02


# --- what is refused


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (np.zeros(9, np.float32), TypeError, "A ndarray is no sound; expected a mapping"),
        ({"waveform": None, "sample_rate": RATE}, TypeError, "has no waveform"),
        ({"waveform": torch.zeros(1, 1, 9)}, TypeError, "has no sample_rate"),
        ((torch.zeros(1, 2, 0), RATE), ValueError, "is empty"),
        ((torch.zeros(1, 1, 1, 9), RATE), ValueError, r"are \[1, 1, 1, 9\]"),
        ((np.float32(1), RATE), ValueError, "expected"),
        ((torch.tensor([0.0, float("nan")]), RATE), ValueError, "NaN or Inf"),
        ((["a", "b"], RATE), TypeError, "expected numbers"),
        ((tone(1, RATE), 0), ValueError, "sample rate of this sound is 0"),
        ((tone(1, RATE), 10**9), ValueError, "from 1000 to 1000000"),
        ((tone(1, RATE), 16000.5), ValueError, "whole number"),
        ((tone(1, RATE), True), ValueError, "whole number"),
        ((tone(1, RATE), float("nan")), ValueError, "whole number"),
        ("nowhere.wav", FileNotFoundError, "There is no sound file nowhere.wav"),
    ],
)
def test_what_is_no_sound(given, error, says):
    with pytest.raises(error, match=says):
        to_waves(given, RATE)


def test_files_that_are_no_sound(tmp_path):
    cases = {
        "empty.wav": b"", "text.wav": b"hello" * 100, "text.txt": b"hello", "half.flac": b"fLaC\0",
        "list.mp3": b"#EXTM3U\nhttp://localhost:9/a.mp3\n",
    }  # fmt: skip
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"not a sound|holds no samples|by its name"):
            read_sound(tmp_path / name)
    with pytest.raises(ValueError, match="is a folder"):
        read_sound(tmp_path)


def test_a_file_cut_short_gives_what_is_there(tmp_path):
    file = write_wav(tmp_path / "a.wav", tone(1.0, RATE)[None], RATE)
    file.write_bytes(file.read_bytes()[:-1001])
    samples, _ = read_sound(file)
    assert samples.shape == (1, RATE - 501)


# --- spectrum


@pytest.mark.parametrize("samples", [321, 480, 1000, 16000, 16001, 16159, 51234])
@pytest.mark.parametrize("kind", ["tone", "silence", "noise"])
def test_the_spectrum_is_transformers_own(samples, kind):
    noise = np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)
    wanted = {"tone": tone(samples / RATE, RATE)[:samples], "noise": noise}
    x = wanted.get(kind, np.zeros(samples, np.float32))
    x = np.pad(x, (0, samples - len(x)))
    (sound,) = RULES.prepare((x, RATE))
    extractor = transformers.WhisperFeatureExtractor(
        feature_size=128, sampling_rate=RATE, hop_length=160, chunk_length=300, n_fft=400
    )
    given = extractor(x, sampling_rate=RATE, return_attention_mask=True, return_tensors="pt")
    want = given["input_features"][0, :, : int(given["attention_mask"].sum())]
    found = sound.spectrum()
    assert found.shape == want.shape == (128, sound.frames)
    assert (found - want).abs().max() <= 1e-6  # as long as it is, the sums are grouped otherwise
    assert sound.tokens == tokens_of(sound.frames) >= 1


def test_what_is_too_short_and_what_is_too_long(caplog):
    with pytest.raises(ValueError, match="too short for one token"):
        RULES.prepare((np.zeros(320, np.float32), RATE))
    (sound,) = RULES.prepare((np.zeros(600 * RATE, np.float32), RATE))  # ten minutes
    assert sound.tokens == 7500 and sound.frames == 30000 and len(sound.wave) == 300 * RATE
    assert "600 seconds long; the model hears the first 300 of them" in caplog.text


def test_numbers_of_the_files_and_what_cannot_be(tmp_path):
    assert read_sound_preprocessor(tmp_path) == RULES
    file = tmp_path / "preprocessor_config.json"
    file.write_text('{"feature_size": 80, "chunk_length": 30}')
    assert read_sound_preprocessor(tmp_path) == SoundPreprocessor(80, RATE, 160, 30, 400)
    newer = tmp_path / "processor_config.json"
    newer.write_text('{"feature_extractor": {"feature_size": 64}}')
    assert read_sound_preprocessor(tmp_path).feature_size == 64
    for content, says in [
        ('{"feature_extractor": [1]}', "expected a mapping"),
        ('{"feature_extractor": {"hop_length": 10000000}}', "hop_length 10000000"),
        ('{"feature_extractor": {"n_fft": "many"}}', "n_fft 'many'"),
    ]:
        newer.write_text(content)
        with pytest.raises(ValueError, match=says):
            read_sound_preprocessor(tmp_path)


def test_a_digest_tells_sounds_apart():
    one, same, other = RULES.prepare(
        [(tone(0.1, RATE), RATE)] * 2 + [(tone(0.1, RATE, 441.0), RATE)]
    )
    assert one.digest() == same.digest() != other.digest()
