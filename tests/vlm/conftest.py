"""Shared by the tests of the library's core: tiny models, and Hugging Face's own as the oracle."""

import os
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vlm
from vlm.cli import progress
from vlm.running.host import Host
from vlm.tiny.folder import write_tiny

# Helpers lie beside the tests and are imported by their names.
sys.path.insert(0, str(Path(__file__).parent))

from hugging_face import HuggingFace  # noqa: E402

# Models this small run slower on several threads than on one, by far on a busy machine.
# TEST_THREADS is for trying others.
torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))

FAMILIES = ("qwen3_vl", "qwen2_vl", "qwen2_5_vl")


class Watch:
    """Counts what a model runs: decoder layers with their tokens, and pictures seen."""

    def __init__(self, model):
        self.ran, self.pictures, self.hooks = [], 0, []
        for index, layer in enumerate(model.backbone.text.layers):
            hook = layer.register_forward_pre_hook(self._layer(index), with_kwargs=True)
            self.hooks.append(hook)
        if model.family.has_vision:
            tower = getattr(model.backbone.model, model.family.vision.modules[0])
            self.hooks.append(tower.register_forward_pre_hook(self._picture))

    def _layer(self, index):
        def count(module, args, kwargs):
            hidden = args[0] if args else kwargs["hidden_states"]
            self.ran.append((index, hidden.shape[1]))

        return count

    def _picture(self, *_):
        self.pictures += 1

    @property
    def layers(self):
        """Decoder layers run, in order."""
        return [index for index, _ in self.ran]

    @property
    def cost(self):
        """Layers times tokens."""
        return sum(tokens for _, tokens in self.ran)

    def restart(self):
        self.ran, self.pictures = [], 0


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """`made(family)`: a tiny model of six layers and the family's own class on its weights."""
    from reference import Reference

    from vlm.families import FAMILIES as KNOWN

    known = {}

    def get(family):
        if family not in known:
            folder = write_tiny(tmp_path_factory.mktemp("made") / family, family, layers=6)
            known[family] = vlm.load(folder, dtype="float32"), Reference(folder, KNOWN[family])
        known[family][0].prefix_cache.clear()
        return known[family]

    return get


@pytest.fixture(scope="session")
def omni(tmp_path_factory):
    """A toy Qwen2.5-Omni, its reference, its own processor and its folder."""
    from omni_processor import Processor
    from reference import Reference

    from vlm.families import FAMILIES as KNOWN

    folder = write_tiny(tmp_path_factory.mktemp("omni") / "omni", "qwen2_5_omni", layers=6)
    model = vlm.load(folder, dtype="float32")
    return model, Reference(folder, KNOWN["qwen2_5_omni"]), Processor(folder), folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """Folder of a tiny model, written once: `tiny_folder(family, layers)`."""
    made = {}

    def get(family="qwen3_vl", layers=36):
        if (family, layers) not in made:
            out = tmp_path_factory.mktemp("tiny") / f"{family}-{layers}"
            made[family, layers] = write_tiny(out, family, layers=layers)
        return made[family, layers]

    return get


@pytest.fixture(scope="session")
def _loaded(tiny_folder):
    made = {}

    def get(family, layers):
        if (family, layers) not in made:
            made[family, layers] = vlm.load(tiny_folder(family, layers), dtype="float32")
        return made[family, layers]

    return get


@pytest.fixture
def tiny(_loaded):
    """A loaded tiny model in float32, shared but with empty caches: `tiny(family, layers)`."""

    def get(family="qwen3_vl", layers=36):
        model = _loaded(family, layers)
        model.prefix_cache.clear()
        model.prefix_cache.limit = 1024 * 2**20
        model.engine.host = Host()
        return model

    return get


@pytest.fixture(autouse=True)
def no_bar_on_a_busy_machine(monkeypatch):
    """Bars of the command line come after a second, which a busy machine takes for anything."""
    monkeypatch.setattr(progress, "DELAY", 600.0)


@pytest.fixture(params=FAMILIES)
def family(request):
    """The name of each family in turn."""
    return request.param


@pytest.fixture
def v(tiny, family):
    """A tiny model of each family in turn: 36 decoder layers, float32, empty caches."""
    return tiny(family)


@pytest.fixture(scope="session")
def _references(tiny_folder):
    return {}, tiny_folder


@pytest.fixture
def hf(_references, family):
    """Hugging Face's own model and processor of the same folder as `v`."""
    made, tiny_folder = _references
    if family not in made:
        made[family] = HuggingFace(family, tiny_folder(family))
    return made[family]


@pytest.fixture
def watch():
    """`watch(model)` counts what the model runs from then on."""
    watches = []

    def start(model):
        watches.append(Watch(model))
        return watches[-1]

    yield start
    for one in watches:
        for hook in one.hooks:
            hook.remove()


@pytest.fixture(scope="session")
def picture():
    """`picture(height, width, seed)`: an RGB picture with edges, gradients and noise."""

    def draw(height, width, seed=0):
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[0:height, 0:width]
        base = np.stack([x * 255 // width, y * 255 // height, (x * (seed + 3) ^ y) % 256], -1)
        noise = rng.integers(-60, 60, base.shape)
        return Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8))

    return draw


@pytest.fixture
def one(picture):
    """A picture in a list."""
    return [picture(90, 150, 1)]


@pytest.fixture
def two(picture, one):
    """It and another one."""
    return [*one, picture(120, 64, 2)]


@pytest.fixture(scope="session")
def err():
    """`err(a, b)`: the largest absolute difference over the largest absolute value of b."""

    def relative(a, b):
        assert a.shape == b.shape
        return ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()

    return relative


@pytest.fixture(scope="session")
def changed():
    """`with changed(tensor, factor)`: a weight multiplied in place, and put back afterwards."""

    @contextmanager
    def scale(weight, factor):
        before = weight.detach().clone()
        with torch.no_grad():
            weight.mul_(factor)
        try:
            yield
        finally:
            with torch.no_grad():
                weight.copy_(before)

    return scale
