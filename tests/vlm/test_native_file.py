"""Conditioning files beside ComfyUI's Save and Load Conditioning, whose rules stand here."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vlm import Tokens
from vlm.conditioning.entries import Entry, read_entries, write_entries
from vlm.conditioning.file import load_about, load_conditioning, save_conditioning
from vlm.token_map import new_map

OLD = Path(__file__).parent / "old_files" / "conditioning-1.safetensors"


def saved_natively(conditioning, path):
    """What Save Conditioning does with a conditioning, by its rules; else ValueError."""
    if len(conditioning) != 1:
        raise ValueError("a single entry")
    ((states, options),) = conditioning
    tensors, plain = {"conditioning": states.clone()}, {}
    for name, value in options.items():
        if torch.is_tensor(value):
            tensors[name] = value.clone()
        elif type(value) in (list, tuple) and all(map(torch.is_tensor, value)):
            for number, item in enumerate(value):
                tensors[f"{name}.{number}"] = item.clone()
        elif type(value) in (bool, int, float, str):
            plain[name] = value
        elif value is not None:
            raise ValueError(name)
    save_file(tensors, path, {"conditioning_options": json.dumps(plain)})


def loaded_natively(path):
    """What Load Conditioning makes of a file, by its rules; KeyError where there is no tensor."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        options = json.loads((file.metadata() or {}).get("conditioning_options", "{}"))
    states, lists = tensors.pop("conditioning"), {}
    for name, tensor in tensors.items():
        head, dot, tail = name.rpartition(".")
        if dot and tail.isdigit():
            lists.setdefault(head, []).append((int(tail), tensor))
        else:
            options[name] = tensor
    for name, items in lists.items():
        options[name] = [tensor for _, tensor in sorted(items, key=lambda item: item[0])]
    return [[states, options]]


def entry(**options):
    token_map = new_map(
        ["template", "image", "image", "text"],
        images=[-1, 0, 0, -1],
        cols=[0, 0, 1, 0],
        grids=[{"image": 0, "frames": 1, "rows": 1, "cols": 2}],
    )
    states = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(0))
    return Entry(Tokens(states, token_map), options)


def full():
    return entry(
        pooled_output=torch.ones(1, 3),
        attention_mask=torch.ones(1, 4, dtype=torch.int64),
        minimax_token_tags=torch.tensor([1, 0, 0, 1]),
        reference_latents=[torch.full((1, 4, 2, 2), float(number)) for number in range(11)],
        reference_latents_method="index",
        guidance=3.5,
    )


def assert_same(a, b):
    assert torch.equal(a[0], b[0]) and a[1].keys() == b[1].keys()
    for name, value in a[1].items():
        if isinstance(value, list) and torch.is_tensor(value[0]):
            assert all(map(torch.equal, value, b[1][name])) and len(value) == len(b[1][name])
        elif torch.is_tensor(value):
            assert torch.equal(value, b[1][name])
        else:
            assert value == b[1][name]


def test_ours_passes_native_save_and_load_with_its_map(tmp_path):
    (ours,) = write_entries([full()])
    saved_natively([ours], tmp_path / "n.safetensors")
    (back,) = loaded_natively(tmp_path / "n.safetensors")
    assert_same(ours, back)
    (read,) = read_entries([back])
    assert read.tokens.token_map == full().tokens.token_map


def test_our_load_reads_a_native_file(tmp_path):
    path = tmp_path / "n.safetensors"
    (ours,) = write_entries([full()])
    saved_natively([ours], path)
    assert_same(write_entries(load_conditioning(path))[0], ours)
    assert load_about(path) == {}
    save_file({"conditioning": torch.ones(1, 2, 3)}, path)  # any file with that tensor
    assert load_conditioning(path)[0].tokens.n == 2


def test_native_load_reads_our_file(tmp_path):
    path = tmp_path / "ours.safetensors"
    one = full()
    one = Entry(one.tokens, {**one.options, "image_slots": [1], "pooled_output": None})
    save_conditioning([one], path, {"model": "tiny"})
    assert_same(write_entries([one])[0], loaded_natively(path)[0])
    assert_same(write_entries([one])[0], write_entries(load_conditioning(path))[0])


def test_what_goes_through_our_save_alone(tmp_path):
    path = tmp_path / "c.safetensors"
    for several in ([entry(image_slots=[1])], [entry(), entry()]):
        with pytest.raises(ValueError, match=r"single|image_slots"):
            saved_natively(write_entries(several), path)
        save_conditioning(several, path)
        assert len(load_conditioning(path)) == len(several)
    with pytest.raises(KeyError):  # rather than the first of two
        loaded_natively(path)


def test_a_file_of_version_1_still_loads():
    first, second = load_conditioning(OLD)
    assert first.tokens.states.dtype == torch.bfloat16
    assert torch.equal(first.tokens.states.float(), torch.arange(24.0).reshape(1, 6, 4) / 8)
    assert first.tokens.token_map["role"].count("image") == 2
    assert first.options["area"] == ("percentage", 0.5, 0.5, 0.0, 0.25)
    assert first.span == (0.0, 0.4) and first.options["guidance"] == 3.5
    assert torch.equal(first.options["reference_latents"][0], torch.zeros(1, 4, 2, 2))
    assert first.tokens.beside["attention_mask"].shape == (1, 6)
    assert second.options == {"pooled_output": None}
    assert second.tokens.beside == {"image_slots": [1]} and second.tokens.token_map is None
    assert load_about(OLD) == {"model": "tiny", "layers": [-8]}


@pytest.mark.parametrize("count", [1, 2])
def test_any_flipped_bit_is_found(tmp_path, count):
    path = tmp_path / "c.safetensors"
    save_conditioning([full()] * count, path)
    whole = path.read_bytes()
    dice = random.Random(count)
    for _ in range(300):
        data = bytearray(whole)
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        try:
            found = write_entries(load_conditioning(path))
        except ValueError:
            continue
        (want, *_), (have, *_) = write_entries([full()] * count), found
        assert_same(want, have)  # a blank of the header's end, or a letter's other spelling


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guidance", "much"),
        ("start_percent", 1.5),
        ("default", 1),
        ("pooled_output", 3.0),
        ("pooled_output", torch.ones(1, 2, 3, 4)),
        ("reference_latents", [torch.ones(1, 2, 3, 4), "x"]),
        ("reference_latents", torch.ones(3)),
        ("area", [1, 2, 3]),
        ("area", ["percent", 1, 2, 3, 4]),
        ("reference_latents_method", 3),
    ],
)
def test_an_option_of_the_wrong_kind_is_refused(tmp_path, name, value):
    path = tmp_path / "c.safetensors"
    save_conditioning([entry(**{name: value})], path)
    with pytest.raises(ValueError, match=f"damaged .its option '{name}' is .*expected"):
        load_conditioning(path)


def test_an_unknown_option_is_left_out_with_a_warning(tmp_path, caplog):
    path = tmp_path / "c.safetensors"
    save_conditioning([entry(guidance=1.0, control="x")], path)
    assert load_conditioning(path)[0].options == {"guidance": 1.0}
    assert "'control'" in caplog.text and "c.safetensors" in caplog.text
