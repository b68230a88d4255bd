"""Shared by the tests of evaluating: toy models, a folder of cases with their results."""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from colours import COLOURS, picture, write_clip, write_dino  # noqa: E402

torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """`clip` and `dino`: folders of toys."""
    place = tmp_path_factory.mktemp("models")
    (place / "clip").mkdir()
    return {"clip": write_clip(place / "clip"), "dino": write_dino(place / "dino")}


@pytest.fixture
def place(tmp_path):
    """`references`, `prompts`, and the results `good` (right, grainy) and `shuffled`."""
    for name in ("references", "prompts", "good", "shuffled"):
        (tmp_path / name).mkdir()
    names = list(COLOURS)
    for at, name in enumerate(names):
        picture(name).save(tmp_path / "references" / f"{name}.png")
        (tmp_path / "prompts" / f"{name}.txt").write_text(f"a {name} picture\n", encoding="utf-8")
        for seed in (1, 2):
            made = picture(name, noise=8, seed=seed)
            made.save(tmp_path / "good" / f"{name}_{seed}.png")
            other = names[(at + 1) % len(names)]
            made.save(tmp_path / "shuffled" / f"{other}_{seed}.png")
    return tmp_path
