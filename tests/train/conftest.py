"""Shared by the tests of training: shallow toys, captions, a recipe that runs in seconds."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vlm.tiny.folder import write_tiny
from vlm.train.recipe import TrainRecipe

sys.path.insert(0, str(Path(__file__).parent))

from captions_of_toys import write_captions  # noqa: E402

torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """All of them are slow: they train."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with `vlm` (4 layers, 64 wide), `captions.txt` and a cache for all."""
    folder = tmp_path_factory.mktemp("train")
    write_tiny(folder / "vlm", "qwen3_vl", layers=4)
    write_captions(folder, 120)
    return folder


@pytest.fixture(scope="session")
def z_image(place):
    """A toy Z-Image that reads what the toy text encoder gives."""
    pytest.importorskip("diffusers")
    from dit_toys import write_z_image

    return write_z_image(place / "z-image", 64)


@pytest.fixture
def recipe(place, tmp_path):
    """`recipe(key=value, ...)`: of the toys, in a folder of the test's own."""

    def get(**changes):
        toys = TrainRecipe(
            captions=str(place / "captions.txt"),
            held_out=16,
            vlm=str(place / "vlm"),
            teacher="tiny",
            layers="3",
            device="cpu",
            steps=6,
            batch=4,
            lr=1e-2,
            warmup=2,
            calibrate=16,
            every=2,
            out=str(tmp_path / "run"),
            cache=str(place / "cache"),
            report=False,
        )
        return replace(toys, **changes)

    return get
