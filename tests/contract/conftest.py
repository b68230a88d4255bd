"""What the pack relies on in transformers: a test for each thing, and which of our files do.

`python -m pytest tests/contract` takes seconds, on any version from 4.57 on and in any Python that
has the pack's requirements, ComfyUI's own too. Where versions differ, the contract is "one of these
forms"; no version number is compared.
"""

import copy
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from vlm.families import FAMILIES, Family
from vlm.families.family import VisionFeatures
from vlm.pictures.preprocessor import VisionInput
from vlm.tiny.folder import write_tiny
from vlm.weights.folder import read_config

sys.path.insert(0, str(Path(__file__).parents[1] / "vlm"))  # the tests' own helpers

from hugging_face import plain_model  # noqa: E402

LAYERS = 6  # the sixth is the first of Gemma 3 that sees everything
SIZE = (90, 150)  # height and width of the picture that is shown
# Those that this version has; which it lacks, a test says.
HERE = {n: one for n, one in FAMILIES.items() if hasattr(transformers, one.architecture)}

# Models this small run slower on several threads than on one.
torch.set_num_threads(1)


def pytest_configure(config):
    config.addinivalue_line("markers", "relies(*files): the files of ours that rely on it")
    config.addinivalue_line("markers", "only(fits): those families of which it is true")


def pytest_collection_modifyitems(items):
    mine = [item for item in items if Path(__file__).parent in item.path.parents]
    nobody = [item.nodeid for item in mine if item.get_closest_marker("relies") is None]
    if nobody:
        raise pytest.UsageError(f"These tests do not say who relies on it: {', '.join(nobody)}.")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Puts into the message of a failure which files of ours rely on it."""
    report = yield
    if report.failed and _files(item):
        said = f"transformers {transformers.__version__} breaks {', '.join(_files(item))}"
        report.sections.append(("Who relies on it", said))
        crash = getattr(report.longrepr, "reprcrash", None)
        if crash is not None:
            crash.message = f"{said}: {crash.message}"
    return report


def _files(item) -> list[str]:
    return [file for mark in item.iter_markers("relies") for file in mark.args]


@dataclass(frozen=True)
class Made:
    """A toy model of a family, loaded by transformers alone.

    Attributes:
        folder: Its files.
        family: Its family.
        whole: With its LM head, float32, in eval mode.
        info: What transformers says of the weights it loaded.
    """

    folder: Path
    family: Family
    whole: Any
    info: dict[str, Any]

    @cached_property
    def _base(self):
        """In a family's own shape where it has one."""
        make = self.family.base_model
        return self.whole.model if make is None else make(self.whole).eval()

    @property
    def model(self):
        """The base model: what sees, what hears and what reads."""
        return self._base

    @property
    def text(self):
        """The language model."""
        return getattr(self.model, self.family.language, self.model)

    @cached_property
    def tokenizer(self):
        """transformers' own."""
        return transformers.AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True)

    def hidden(self, tokens: int) -> torch.Tensor:
        """States [1, S, D] of some tokens, the same for every family."""
        noise = torch.Generator().manual_seed(7)
        return torch.randn(1, tokens, self.text.config.hidden_size, generator=noise)

    @cached_property
    def seeing(self):
        """The base model as the pack changes it before it shows it a picture."""
        model = copy.deepcopy(self.model)
        self.family.vision.prepare(model)
        return model

    @cached_property
    def preprocessor(self):
        """Ours, of the toy model's files."""
        return self.family.vision.read_preprocessor(self.folder, read_config(self.folder))

    def picture(self, seed: int = 0, video: bool = False) -> VisionInput:
        """A picture, or four frames, as the family's tower takes it."""
        noise = np.random.default_rng(seed)
        frames = [Image.fromarray(noise.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
                  for _ in range(4)]  # fmt: skip
        if video:
            return self.preprocessor.prepare_video(frames, 2.0, None, None, None)
        return self.preprocessor.prepare_images(frames[:1], None, None)[0]

    @torch.no_grad()
    def features(self, picture: VisionInput, model: Any = None) -> VisionFeatures:
        """What the tower makes of a picture: tokens' features and DeepStack's levels."""
        patches = picture.patches()
        return self.family.vision.features(model or self.seeing, patches.pixels, patches.grid)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """`made(family)`: its toy model, made once."""
    known: dict[str, Made] = {}

    def get(name: str) -> Made:
        if name not in known:
            family = FAMILIES[name]
            folder = write_tiny(tmp_path_factory.mktemp("contract") / name, name, layers=LAYERS)
            whole, info = plain_model(folder, name, attn_implementation="sdpa")
            one = Made(folder, family, whole.requires_grad_(False), info)
            family.decoder.prepare(one.text)
            known[name] = one
        return known[name]

    return get


@pytest.fixture
def one(made, request):
    """The toy model of the family that the test is for."""
    return made(request.param)


def pytest_generate_tests(metafunc):
    """`one` is every family in turn that this version has, or those that a mark asks for."""
    if "one" in metafunc.fixturenames:
        wanted = metafunc.definition.get_closest_marker("only")
        fits = wanted.args[0] if wanted else lambda family: True
        names = [name for name, family in HERE.items() if fits(family)]
        metafunc.parametrize("one", names, indirect=True)


@pytest.fixture(scope="session")
def err():
    """`err(a, b)`: the largest absolute difference over the largest absolute value of b."""

    def relative(a: torch.Tensor, b: torch.Tensor) -> float:
        assert a.shape == b.shape
        return ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()

    return relative
