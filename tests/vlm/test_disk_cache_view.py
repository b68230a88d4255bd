"""Hidden states from disk: the same numbers without running, for the same content and no other."""

import pytest
import torch
from rounding import rounding

import vlm
from vlm.running.disk_cache import DiskCache
from vlm.running.host import Host

pytestmark = pytest.mark.slow

TEXT = "a red house by the river"


@pytest.fixture
def load(tmp_path, tiny_folder):
    """Loads the model anew, as another process would, on a cache of its own per name."""

    def _load(name="cache", limit_mb=64, **options):
        cache = DiskCache(tmp_path / name, limit_mb)
        return vlm.load(tiny_folder(), disk_cache=cache, **options)

    return _load


@pytest.fixture
def layers_run(monkeypatch):
    """Decoder layers that ran, counted."""
    from vlm.running.huggingface import HuggingFaceBackbone

    ran = []
    run_layer = HuggingFaceBackbone.run_layer

    def counted(self, layer, *args):
        ran.append(layer)
        return run_layer(self, layer, *args)

    monkeypatch.setattr(HuggingFaceBackbone, "run_layer", counted)
    return ran


def test_the_second_process_runs_nothing(load, picture, layers_run):
    images = [picture(90, 150, 1)]
    model = load()
    first = model.encode(TEXT, images, target="krea2")
    first.reach_target()
    want = vlm.select_layers(first).states
    last, raw = (first.layer(-1, final_norm=norm) for norm in (True, False))
    layers_run.clear()
    model = load()
    again = model.encode(TEXT, images, target="krea2")
    again.reach_target()
    assert torch.equal(vlm.select_layers(again).states, want)
    assert torch.equal(again.layer(-1), last)
    assert torch.equal(again.layer(-1, final_norm=False), raw)
    assert layers_run == []


def test_a_deeper_layer_goes_on_from_what_was_found(load, picture, layers_run, err):
    images = [picture(64, 64, 2)]
    load().encode(TEXT, images, depth=20)
    layers_run.clear()
    model = load()
    states = model.encode(TEXT, images, depth=20)
    assert layers_run == []
    deeper = states.layer(30)
    assert layers_run == list(range(20, 30))
    alone = vlm.load("tiny")
    assert err(deeper, alone.encode(TEXT, images, depth=30).layer(30)) < rounding(30)


def test_other_content_runs(load, picture, layers_run):
    model = load()
    model.encode(TEXT, [picture(64, 64, 2)], depth=8)
    for text, image, options in (
        (TEXT + "!", picture(64, 64, 2), {}),
        (TEXT, picture(64, 64, 3), {}),
        (TEXT, picture(64, 64, 2), {"target": "krea2"}),
        (TEXT, picture(64, 64, 2), {"system": "Be brief."}),
    ):
        layers_run.clear()
        load().encode(text, [image], depth=8, **options)
        assert layers_run == list(range(8)), (text, options)
    layers_run.clear()
    load(dtype="bfloat16").encode(TEXT, [picture(64, 64, 2)], depth=8)
    assert layers_run == list(range(8))


def test_the_folder_can_be_deleted_at_any_time(load, tmp_path, layers_run):
    import shutil

    model = load()
    model.encode(TEXT, depth=4)
    shutil.rmtree(tmp_path / "cache")
    layers_run.clear()
    model.encode(TEXT, depth=4)
    assert layers_run == [0, 1, 2, 3]
    layers_run.clear()
    load().encode(TEXT, depth=4)
    assert layers_run == []


def test_weights_that_no_name_describes_are_not_kept(load, tmp_path, layers_run):
    class Hooked(Host):
        patches = None

    model = load(host=Hooked())
    model.encode(TEXT, depth=4)
    model.encode(TEXT, depth=4)
    assert len(layers_run) == 8
    assert not any((tmp_path / "cache").glob("*.safetensors"))


class Late(Host):
    """As in ComfyUI: weights lie on the CPU until something runs."""

    def __init__(self, device):
        self.device = torch.device(device)


def test_entries_belong_to_the_device_that_will_run(load, layers_run):
    load(host=Late("cuda")).encode(TEXT, depth=3)  # a Late host leaves it on the CPU all the same
    layers_run.clear()
    load(host=Late("cpu")).encode(TEXT, depth=3)
    assert layers_run == [0, 1, 2]
    for host in (Host(), Late("cpu"), Late("cuda")):
        layers_run.clear()
        load(host=host).encode(TEXT, depth=3)
        assert layers_run == []


ODD_ENTRIES = {
    "no states": lambda states: {"x": states},
    "something more": lambda states: {"states": states, "x": states},
    "another length": lambda states: {"states": states[:, 1:]},
    "another width": lambda states: {"states": states[..., 1:]},
    "no batch": lambda states: {"states": states[0]},
    "whole numbers": lambda states: {"states": states.long()},
    "NaN": lambda states: {"states": torch.full_like(states, float("nan"))},
    "Inf": lambda states: {"states": torch.full_like(states, float("inf"))},
    "a norm of a middle layer": lambda states: {"states": states, "normed": states},
}


@pytest.mark.parametrize("what", ODD_ENTRIES)
def test_an_entry_that_is_no_layer_is_a_miss(load, layers_run, what):
    want = load().encode(TEXT).layer(2)
    cache = DiskCache(load().engine.disk_cache.folder, 64)
    for file in list(cache.folder.iterdir()):
        key = file.stem.removeprefix("vlm-")
        cache.put(key, ODD_ENTRIES[what](cache.get(key)["states"]))
    layers_run.clear()
    assert torch.equal(load().encode(TEXT).layer(2), want)
    assert layers_run
    layers_run.clear()
    assert torch.equal(load().encode(TEXT).layer(2), want)
    assert not layers_run  # and the good one is there again
