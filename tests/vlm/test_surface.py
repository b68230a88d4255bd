"""The library's face: exported names, wrong types everywhere, what a repr and a version say."""

import importlib.metadata
import inspect
import linecache
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vlm
from tests.fuzz.surfaces.exported import exported_calls

ROOT = Path(__file__).resolve().parents[2]


class Thing:
    """Something that nothing expects."""


WRONG = {
    "None": None,
    "text": "x",
    "empty text": "",
    "a number": 5,
    "a negative number": -1,
    "a fraction": 1.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "minus inf": float("-inf"),
    "more than float32 holds": 1e308,
    "less than float32 holds": -1e308,
    "a fraction that no float holds": Fraction(10**400),
    "a number of 32 bits": 2**31,
    "a number of 64 bits": 2**63,
    "a negative number of 64 bits": -(2**63) - 1,
    "a huge number": 10**400,
    "text with NUL": "a\0b",
    "half a letter": "\ud800",
    "a long text": "x" * 5000,
    "lines and an escape": "a\n\x1b[31m",
    "a bool": True,
    "an empty list": [],
    "a list of numbers": [1, 2],
    "a list of things": [Thing()],
    "a mapping": {"a": 1},
    "a thing": Thing(),
    "bytes": b"x",
    "a tensor": torch.zeros(2),
    "an array": np.zeros(3),
    "a picture": Image.new("RGB", (4, 4)),
    "a class": int,
}


@pytest.fixture(scope="module")
def model(tiny_folder):
    return vlm.load(tiny_folder("qwen3_vl", 2), dtype="float32")


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    return exported_calls(tmp_path_factory.mktemp("surface"))


def names():
    exported = (getattr(vlm, name) for name in vlm.__all__)
    return sorted(one.__name__ for one in exported if callable(one))


METHODS = ["encode", "rewrite", "layer", "layers", "user", "assistant"]


def test_every_exported_name_is_tried(calls):
    assert sorted(call.__name__ for call in calls) == sorted([*names(), *METHODS])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*names(), *METHODS])
def test_wrong_types_are_refused_in_words(calls, name, tmp_path, monkeypatch):
    """Each argument in turn is something else; what is raised is ours, and a sentence."""
    monkeypatch.chdir(tmp_path)  # "x" is a file name too
    call = next(call for call in calls if call.__name__ == name)
    good, bad = calls[call], []
    call(**good)
    for parameter in inspect.signature(call).parameters:
        for words, wrong in WRONG.items():
            if callable(good.get(parameter)) and callable(wrong):
                continue  # a function of the caller's: what it raises is its own
            try:
                call(**{**good, parameter: wrong})
            except (ValueError, TypeError, OSError) as error:
                if not is_ours(error) or not is_sentence(str(error)):
                    bad.append(f"{parameter} = {words}: {error!r}")
            except Exception as error:  # what the test looks for
                bad.append(f"{parameter} = {words}: {error!r}")
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("wrong", [0, -1, 5, 10**6, 10**400, "8"])
def test_sizes_of_the_toy_model(wrong):
    for name in ("width", "layers"):
        if (name, wrong) == ("layers", 5):
            continue
        with pytest.raises((ValueError, TypeError)) as error:
            vlm.load("tiny", **{name: wrong})
        assert is_ours(error.value) and is_sentence(str(error.value))


def is_sentence(text):
    """Several words and a full stop, and short enough to be read."""
    return len(text.split()) > 4 and text.rstrip().endswith(".") and len(text) < 1000


def is_ours(error):
    """Whether it was raised by a `raise` of the library, and not somewhere below."""
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    file = last.tb_frame.f_code.co_filename
    lines = "".join(linecache.getline(file, last.tb_lineno - back) for back in range(12))
    return Path(file).is_relative_to(ROOT / "vlm") and "raise " in lines


def test_what_things_say_they_are(model, calls):
    h = model.encode("a red house")
    assert repr(model).endswith(": Qwen3-VL, 3 layers with the embeddings, 64 wide, float32)")
    assert "held to layer -1 of 2, 64" in repr(h) and "text 3" in repr(h) and "chat" in repr(h)
    h.layer(1)
    assert "held to layer 1 of 2" in repr(h)
    t = vlm.select_layers(h)
    assert repr(t) == f"Tokens(1 x {t.n} x 64 float32; {t.n} tokens: template {t.n - 3}, text 3)"
    assert "no map" in repr(vlm.Tokens(t.states))
    stats = repr(vlm.measure_stats(t, model="tiny"))
    assert stats.startswith("Stats(64 dimensions of tiny, std ") and f"{t.n} tokens" in stats
    assert repr(vlm.Entry(t, {"pooled_output": t.states})).endswith("options: pooled_output)")
    for one in (model, h, t, stats):
        assert "\n" not in repr(one) and len(repr(one)) < 200


def test_the_version_has_one_source(monkeypatch, tmp_path):
    from vlm import version

    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{vlm.__version__}"\n' in text
    monkeypatch.setattr(version, "__file__", str(tmp_path / "site-packages" / "vlm" / "version.py"))
    monkeypatch.setattr(version, "version", {version.NAME: "9.8.7"}.__getitem__)
    assert version.find_version() == "9.8.7"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vlm.nothing  # noqa: B018
    assert importlib.metadata is not None


def test_each_of_several_prompts_has_its_own_pictures(model):
    red, blue = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
    own = model.encode(["a", "b", "c"], images=[[red], [blue, red], []])
    assert [len(h.token_map["grids"]) for h in own] == [1, 2, 0]
    alone = model.encode("b", images=[blue, red])
    assert torch.equal(own[1].layer(1), alone.layer(1))
    shared = model.encode(["a", "b"], images=[red])
    assert torch.equal(shared[0].layer(1), own[0].layer(1))
    with pytest.raises(ValueError, match="`images` holds 1 lists for 2 texts"):
        model.encode(["a", "b"], images=[[red]])


def test_the_fastest_device(tiny_folder):
    model = vlm.load(tiny_folder("qwen3_vl", 2), device="auto")
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if not (hasattr(torch, "xpu") and torch.xpu.is_available()):
        assert torch.backends.mps.is_available() or model.backbone.device_of("text").type == kind
