"""Conditioning on disk: back as it was, whole or not at all, plain words for everything else."""

import errno
import json
import os
import stat

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlm import Tokens
from vlm.conditioning import file as files
from vlm.conditioning.entries import Entry, read_entries, write_entries
from vlm.conditioning.file import load_about, load_conditioning, save_conditioning
from vlm.token_map import new_map


def entry(n=3, width=4, dtype=torch.float32, options=None, seed=0, mapped=True):
    states = torch.randn(1, n, width, generator=torch.Generator().manual_seed(seed)).to(dtype)
    roles = ["text"] * (n - 1) + ["image"]
    token_map = new_map(roles, images=[-1] * (n - 1) + [0]) if mapped else None
    return Entry(Tokens(states, token_map), options or {})


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def test_entries_come_back_as_they_were(tmp_path):
    pooled = torch.randn(1, 768)
    options = {
        "pooled_output": pooled,
        "guidance": 3.5,
        "strength": 1,
        "default": True,
        "prompt_type": "日本語 <|image_pad|>",
        "concat_mask": None,
        "area": ("percentage", 0.5, 0.5, 0.0, 0.25),
        "reference_latents": [torch.zeros(1, 4, 2, 2), pooled[None, :, :3].half()],
        "start_percent": 0.0,
        "end_percent": 0.4,
        "attention_mask": torch.ones(1, 3, dtype=torch.int64),
    }
    before = [entry(options=options), entry(5, seed=1, mapped=False), entry(2, seed=2)]
    save_conditioning(before, tmp_path / "c.safetensors")
    after = load_conditioning(tmp_path / "c.safetensors")
    assert len(after) == 3
    for old, new in zip(before, after, strict=True):
        assert same(old.tokens.states, new.tokens.states)
        assert old.tokens.token_map == new.tokens.token_map
        assert same(old.options, new.options)
    assert after[0].span == (0.0, 0.4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtype_stays(tmp_path, dtype):
    save_conditioning([entry(dtype=dtype)], tmp_path / "c.safetensors")
    assert load_conditioning(tmp_path / "c.safetensors")[0].tokens.states.dtype == dtype


def test_views_and_shared_memory_are_saved(tmp_path):
    whole = torch.randn(2, 6, 4)
    views = [Entry(Tokens(whole[:1, ::2]), {"pooled_output": whole[0]}), Entry(Tokens(whole), {})]
    save_conditioning(views, tmp_path / "c.safetensors")
    first, second = load_conditioning(tmp_path / "c.safetensors")
    assert torch.equal(first.tokens.states, whole[:1, ::2])
    assert torch.equal(first.options["pooled_output"], whole[0])
    assert torch.equal(second.tokens.states, whole)


def test_comfyui_conditioning_round_trip(tmp_path):
    conditioning = write_entries([entry(options={"pooled_output": torch.ones(1, 2)})])
    save_conditioning(read_entries(conditioning, "conditioning"), tmp_path / "c.safetensors")
    back = write_entries(load_conditioning(tmp_path / "c.safetensors"))
    assert same(conditioning, back)


def test_about(tmp_path):
    about = {"model": "tiny", "layers": [-8, -2], "span": (0, 1), "alpha": 0.3}
    save_conditioning([entry()], tmp_path / "c.safetensors", about)
    assert same(load_about(tmp_path / "c.safetensors"), about)
    save_conditioning([entry()], tmp_path / "c.safetensors")
    assert load_about(tmp_path / "c.safetensors") == {}


def test_the_file_is_plain_safetensors_with_ordinary_rights(tmp_path):
    path = tmp_path / "c.safetensors"
    save_conditioning([entry(options={"pooled_output": torch.ones(1, 2)})], path)
    assert sorted(load_file(path)) == ["conditioning", "pooled_output"]
    os.umask(mask := os.umask(0))
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert [file.name for file in tmp_path.iterdir()] == ["c.safetensors"]


def test_loaded_tensors_do_not_lie_in_the_file(tmp_path):
    path = tmp_path / "c.safetensors"
    save_conditioning([entry(64, 64)], path)
    states = load_conditioning(path)[0].tokens.states
    kept = states.clone()
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(states, kept)


class HookGroup:
    pass


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("hooks", HookGroup(), "before Set CLIP Hooks"),
        ("control", HookGroup(), "behind the node that loads it"),
        ("gligen", ("position", HookGroup(), []), "GLIGENTextBoxApply"),
        ("mine", {"a": [HookGroup()]}, "before the node that adds it"),
        ("numbers", {1: 2}, "names that are no text"),
        ("set", {1, 2}, "set"),
        ("dtype", torch.float32, "dtype"),
    ],
)
def test_what_a_file_cannot_hold(tmp_path, key, value, says):
    path = tmp_path / "c.safetensors"
    path.write_text("old")
    with pytest.raises(ValueError, match=says) as caught:
        save_conditioning([entry(options={"fine": 1, key: value})], path)
    assert repr(key) in str(caught.value)
    assert path.read_text() == "old"


def test_a_tensor_in_about_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'about'"):
        save_conditioning([entry()], tmp_path / "c.safetensors", {"mean": torch.ones(2)})


def test_nothing_to_save(tmp_path):
    with pytest.raises(ValueError, match="no entry"):
        save_conditioning([], tmp_path / "c.safetensors")
    with pytest.raises(FileNotFoundError, match="folder"):
        save_conditioning([entry()], tmp_path / "no" / "c.safetensors")


@pytest.mark.parametrize("where", ["write", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, where):
    path = tmp_path / "c.safetensors"
    save_conditioning([entry()], path, {"number": 1})

    def full(descriptor):
        os.ftruncate(descriptor, 100)
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(source, place):
        raise PermissionError(13, "Permission denied")

    if where == "write":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="could not be written.*(No space|denied)"):
        save_conditioning([entry()], path, {"number": 2})
    assert load_about(path) == {"number": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["c.safetensors"]


def test_missing_foreign_and_truncated_files(tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(FileNotFoundError, match="no conditioning file"):
        load_conditioning(path)
    save_conditioning([entry(64, 64)], path)
    whole = path.read_bytes()
    for cut in (0, 7, 100, len(whole) - 10):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            load_conditioning(path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" * 10)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_about(path)
    save_file({"mean": torch.ones(2), "std": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="no VLM conditioning but 'mean', 'std'.*`save_cond"):
        load_conditioning(path)


def rewrite(path, tensors=None, **changes):
    metadata = {
        "format": files.FORMAT,
        "version": "1",
        "about": '{"dict": {}}',
        "entries": '[{"map": null, "options": {}}]',
    }
    metadata = {k: v for k, v in {**metadata, **changes}.items() if v is not None}
    save_file({"0.states": torch.ones(1, 2, 3)} if tensors is None else tensors, path, metadata)
    return path


def test_a_newer_version(tmp_path):
    with pytest.raises(ValueError, match="version '3', this pack reads up to 2. Update"):
        load_conditioning(rewrite(tmp_path / "c.safetensors", version="3"))


@pytest.mark.parametrize(
    "entries",
    [
        None,
        "[{",
        "3",
        "[3]",
        "[]",
        "[{}]",
        '[{"map": null, "options": {"a": {"tensor": "5"}}}]',
        '[{"map": null, "options": {"a": {"pickle": "x"}}}]',
        '[{"map": null, "options": {"a": {}}}]',
        '[{"map": null, "options": []}]',
        '[{"map": null, "options": {}}, {"map": null, "options": {}}]',
        '[{"map": null, "options": {"a": ' + "[" * 100000 + "]" * 100000 + "}}]",
    ],
)
def test_damaged_metadata(tmp_path, entries):
    with pytest.raises(ValueError, match="c.safetensors (is damaged|holds no entry)"):
        load_conditioning(rewrite(tmp_path / "c.safetensors", entries=entries))


def test_damaged_tensors(tmp_path):
    for bad in (torch.ones(2, 3), torch.ones(1, 2, 3, dtype=torch.int64), torch.ones(1, 0, 3)):
        with pytest.raises(ValueError, match="damaged"):
            load_conditioning(rewrite(tmp_path / "c.safetensors", {"0.states": bad}))
    with pytest.raises(ValueError, match="damaged"):
        load_about(rewrite(tmp_path / "c.safetensors", about='{"dict": 3}'))


def test_a_foreign_token_map_is_dropped(tmp_path, caplog):
    rows = json.dumps([{"map": {"version": 9}, "options": {}}])
    loaded = load_conditioning(rewrite(tmp_path / "c.safetensors", entries=rows))
    assert loaded[0].tokens.token_map is None
    assert "token map" in caplog.text


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("where", ["states", "pooled_output", "guidance"])
def test_numbers_that_are_none_are_refused(tmp_path, value, where):
    one = entry(dtype=torch.float16)
    if where == "states":
        one.tokens.states[0, 1, 2] = float(value)
    else:
        bad = torch.tensor([0.0, float(value)]) if where == "pooled_output" else float(value)
        one = entry(options={where: bad})
    save_conditioning([one], tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match=r"bad\.safetensors.*(NaN or Inf|an option is)"):
        load_conditioning(tmp_path / "bad.safetensors")
