"""What the pack relies on in transformers: a test for each thing, and which of our files do.

`python -m pytest tests/contract` takes seconds, on any version from 4.57 on and in any Python that
has the pack's requirements, ComfyUI's own too. Where versions differ, the contract is "one of these
forms"; no version number is compared.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from vlm.families import FAMILIES, Family
from vlm.tiny.folder import write_tiny

LAYERS = 6  # the sixth is the first of Gemma 3 that sees everything
PATCHES = (1, 6, 8)  # frames, rows and columns of patches of the picture that is shown
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

    @property
    def model(self):
        """The base model: what sees and what reads."""
        return self.whole.model

    @property
    def text(self):
        """The language model."""
        return getattr(self.model, "language_model", self.model)

    @cached_property
    def tokenizer(self):
        """transformers' own."""
        return transformers.AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True)

    def hidden(self, tokens: int) -> torch.Tensor:
        """States [1, S, D] of some tokens, the same for every family."""
        noise = torch.Generator().manual_seed(7)
        return torch.randn(1, tokens, self.text.config.hidden_size, generator=noise)

    def pixels(self, frames: int = 1) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """A picture as the family's tower takes it, and its grid of patches."""
        noise = torch.Generator().manual_seed(8)
        config = self.model.config.vision_config
        if self.family.vision.modules == ("visual",):
            patch = config.patch_size
            values = 3 * config.temporal_patch_size * patch * patch
            grid = (frames, *PATCHES[1:])
            pixels = torch.randn(grid[0] * grid[1] * grid[2], values, generator=noise)
            return pixels, grid
        side = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
        rows = side // (config.patch_size if isinstance(config.patch_size, int) else 14)
        return torch.randn(1, 3, side, side, generator=noise), (1, rows, rows)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """`made(family)`: its toy model, made once."""
    known: dict[str, Made] = {}

    def get(name: str) -> Made:
        if name not in known:
            family = FAMILIES[name]
            folder = write_tiny(tmp_path_factory.mktemp("contract") / name, name, layers=LAYERS)
            whole, info = getattr(transformers, family.architecture).from_pretrained(
                str(folder), dtype=torch.float32, attn_implementation="sdpa",
                output_loading_info=True,
            )  # fmt: skip
            one = Made(folder, family, whole.eval().requires_grad_(False), info)
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
