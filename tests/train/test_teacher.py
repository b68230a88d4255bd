"""FLUX.1's own text encoders as a teacher: diffusers' pipeline as the oracle."""

import pytest
import torch
from captions_of_toys import captions
from flux1_toys import write_encoders

from vlm.running.disk_cache import DiskCache
from vlm.train.features_loss import PAD
from vlm.train.run import train
from vlm.train.teacher import load_teacher

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def flux1(tmp_path_factory):
    return write_encoders(tmp_path_factory.mktemp("flux1"))


def test_it_gives_what_the_pipeline_reads(flux1, recipe):
    from diffusers import FluxPipeline

    teacher = load_teacher(recipe(target="flux1", teacher=str(flux1)), CPU, None)
    pipeline = FluxPipeline(
        scheduler=None, vae=None, transformer=None, tokenizer=teacher._tokenizers[0],
        tokenizer_2=teacher._tokenizers[1], text_encoder=teacher._clip, text_encoder_2=teacher._t5,
    )  # fmt: skip
    for caption in captions(3):
        states, pooled, _ = pipeline.encode_prompt(caption, None, device=CPU)
        found = teacher(caption)
        assert torch.equal(found.states, states[0]) and torch.equal(found.pooled, pooled[0])
        spans = [span for span in found.spans if span[1] > span[0]]
        covered = {place for start, stop in spans for place in range(start, stop)}
        assert covered >= {place for place, letter in enumerate(caption) if letter != " "}
        assert spans == sorted(spans) and spans[-1][1] == len(caption)
        assert 4 < int((found.kinds != PAD).sum()) < 60


def test_the_cache_gives_the_same_bits(flux1, recipe, tmp_path, monkeypatch):
    given = recipe(target="flux1", teacher=str(flux1))
    caption = captions(1)[0]
    first = load_teacher(given, CPU, DiskCache(tmp_path / "cache", 100))(caption)
    again = load_teacher(given, CPU, DiskCache(tmp_path / "cache", 100))
    monkeypatch.setattr(again, "_run", None)
    assert torch.equal(again(caption).states, first.states)
    assert torch.equal(again(caption).pooled, first.pooled)


def test_tokens_are_aligned_and_the_pooled_vector_is_learnt(flux1, recipe):
    """An AlignNet against T5 and CLIP, whose tokens are others than the VLM's."""
    given = recipe(
        target="flux1", teacher=str(flux1), connector="alignnet-cnn", layers="auto", hidden=32,
        held_out=2, calibrate=4, batch=2, steps=8, every=8, lr=1e-2, warmup=0,
    )  # fmt: skip
    log = train(given).log
    assert {"words", "pooled"} <= log[0].keys() and "pads" not in log[0]
    assert log[-1]["words"] < log[0]["words"] and log[-1]["pooled"] < log[0]["pooled"]


def test_a_connector_without_a_pooled_vector_is_told(flux1, recipe):
    with pytest.raises(ValueError, match="reads a pooled vector, and a connector of the kind mlp"):
        train(recipe(target="flux1", teacher=str(flux1), connector="mlp", calibrate=2))


def test_a_folder_that_lacks_a_part_is_told(flux1, recipe, tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "tokenizer").mkdir()
    with pytest.raises(FileNotFoundError, match="part lacks tokenizer_2, text_encoder, text_enc"):
        train(recipe(target="flux1", teacher=str(tmp_path / "part")))
    broken = tmp_path / "broken"
    write_encoders(broken)
    (broken / "text_encoder_2" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="text_encoder_2 in .*broken cannot be read"):
        train(recipe(target="flux1", teacher=str(broken)))
