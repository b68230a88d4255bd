"""Audio towers, and the class that makes the spectra which they hear."""

import numpy as np
import pytest
import torch
import transformers

hearing = pytest.mark.only(lambda family: family.has_audio)
FAMILY, SOUNDS = "vlm/families/qwen2_5_omni.py", "vlm/sounds/preprocessor.py"
RATE = 16000


@pytest.mark.relies(SOUNDS)
def test_a_spectrum_has_a_step_each_hop_and_looks_no_further_than_a_window():
    """So a sound may be padded by a window alone, and not to five minutes."""
    extractor = transformers.WhisperFeatureExtractor(
        feature_size=128, sampling_rate=RATE, hop_length=160, chunk_length=30, n_fft=400
    )
    noise = np.random.default_rng(1).uniform(-1, 1, 16000).astype(np.float32)
    settings = {"sampling_rate": RATE, "return_tensors": "pt"}
    whole = extractor(noise, return_attention_mask=True, **settings)
    assert int(whole["attention_mask"].sum()) == 100
    padded = np.pad(noise, (0, 480))
    short = extractor(padded, padding="longest", truncation=False, **settings)["input_features"]
    assert short.shape == (1, 128, 103) and short.dtype == torch.float32
    assert (short[0, :, :100] - whole["input_features"][0, :, :100]).abs().max() <= 1e-6


@hearing
@pytest.mark.relies(FAMILY, "vlm/weights/base_model.py")
def test_features_are_a_row_for_each_token(one):
    from vlm.sounds.preprocessor import tokens_of

    for frames in (3, 4, 199, 200, 201, 203, 1000):
        spectrum = torch.randn(128, frames, generator=torch.Generator().manual_seed(frames))
        with torch.no_grad():
            found = one.family.audio.features(one.model, spectrum)
        assert found.shape == (tokens_of(frames), one.text.config.hidden_size)
        assert bool(torch.isfinite(found).all())


@hearing
@pytest.mark.relies(FAMILY)
def test_what_it_hears_depends_on_the_sound_alone(one):
    """Beside another sound it is the same: towers may take several at once."""
    spectra = [torch.randn(128, n, generator=torch.Generator().manual_seed(n)) for n in (150, 90)]
    lens = torch.tensor([one.shape[1] for one in spectra])
    with torch.no_grad():
        alone = [one.family.audio.features(one.model, each) for each in spectra]
        both = one.model.audio_tower(
            torch.cat(spectra, 1), feature_lens=lens, aftercnn_lens=(lens - 1) // 2 + 1
        ).last_hidden_state
    torch.testing.assert_close(torch.cat(alone), both, rtol=0, atol=1e-5)
