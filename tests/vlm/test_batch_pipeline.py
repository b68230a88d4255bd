"""Batches of rows as Ray Data hands them over: dicts of NumPy columns in and out."""

import numpy as np
import pytest
import torch

from vlm.batch import BatchEncoder
from vlm.batch.encode import encode_jobs
from vlm.batch.jobs import Provenance, make_job
from vlm.batch.recipe import Recipe
from vlm.conditioning.file import load_conditioning


@pytest.fixture
def place(tmp_path, picture):
    picture(64, 96, 1).save(tmp_path / "wide.png")
    return tmp_path


@pytest.fixture
def encoder(tiny_folder, place):
    return BatchEncoder(
        tiny_folder(layers=6), place / "out", device="cpu", place=place, layers=-2, alpha=0.5
    )


def column(*values):
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def test_a_batch(encoder, place, tiny):
    batch = {
        "id": np.array(["one", "two", "three"]),
        "text": np.array(["a boat", "a tree", "a house"]),
        "image": column(np.array(["wide.png"], dtype=object), ["wide.png"], None),
        "layers": np.array([np.nan, np.nan, 3.0]),  # as a column of integers with gaps comes
        "max_pixels": np.array([65536, 65536, 65536]),
        "no-final-norm": np.array([False, False, True]),
        "template": column(None, None, "chat"),
    }
    told = encoder(batch)
    assert list(told) == ["id", "file", "tokens", "width", "error"]
    assert told["id"].tolist() == ["one", "two", "three"] and not any(told["error"])
    assert told["width"].tolist() == [64] * 3
    for name, file, n in zip(told["id"], told["file"], told["tokens"], strict=True):
        assert file == str(place / "out" / f"{name}.safetensors")
        (entry,) = load_conditioning(file)
        assert entry.tokens.n == n and torch.isfinite(entry.tokens.states).all()
    given = {"text": "a boat", "image": ("wide.png",), "max_pixels": 65536, "no_final_norm": False}
    defaults, maker = Recipe(layers="-2", alpha=0.5), Provenance("qwen3_vl-6")
    job = make_job("one", given, defaults, maker, place)
    list(encode_jobs(tiny(layers=6), [job], {}, place, maker))
    assert (place / "one.safetensors").read_bytes() == (place / "out/one.safetensors").read_bytes()


def test_a_batch_that_is_tried_again_makes_nothing_again(encoder, place):
    batch = {"id": np.array(["one", "two"]), "text": np.array(["a", "b"])}
    first = encoder(batch)
    times = [file.stat().st_mtime_ns for file in sorted((place / "out").iterdir())]
    again = encoder(batch)
    assert all((first[key] == again[key]).all() for key in first)
    assert [file.stat().st_mtime_ns for file in sorted((place / "out").iterdir())] == times


def test_a_row_that_fails_leaves_the_others(encoder, place):
    encoder({"id": ["taken"], "text": ["something else"]})
    batch = {
        "id": ["good", "no-picture", "bad/name", "taken", "good", None, "worse", "last"],
        "text": ["a", "a", "a", "a", "twice", "a", "a", "b"],
        "image": column(None, "none.png", None, None, None, None, None, None),
        "alpha": [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 7.0, 0.1],
    }
    told = encoder(batch)
    expected = ["", "no picture", "file's name", "other jobs", "twice", "no id", "share", ""]
    assert told["id"].tolist() == [str(name or "") for name in batch["id"]]
    for error, file, says in zip(told["error"], told["file"], expected, strict=True):
        assert says in error and bool(error) == bool(says) == (not file)
    assert sorted(file.stem for file in (place / "out").iterdir()) == ["good", "last", "taken"]


def test_an_empty_batch(encoder):
    assert len(encoder({"id": np.array([]), "text": np.array([])})["id"]) == 0


def test_bad_options_before_the_model_loads(place):
    with pytest.raises(ValueError, match="'layer' is no option"):
        BatchEncoder("none", place, layer=3)
    with pytest.raises(ValueError, match="--alpha is the picture's share"):
        BatchEncoder("none", place, alpha=3)
    with pytest.raises(FileNotFoundError, match="no folder none"):
        BatchEncoder("none", place)
