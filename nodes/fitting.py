"""Which listed model suits a target: for VLM Loader's first choice, and for what nodes say."""

from __future__ import annotations

import functools
from pathlib import Path

from ..vlm.download.pins import pins
from ..vlm.fitting import ModelFacts, best_for, fix_width, read_facts
from ..vlm.model import VLM
from ..vlm.targets import TARGETS, find_target
from . import folders

FITS = "vlmc_fits"  # what web/fitting.js reads


class _Fits:
    """What suits each target, found anew when the list of models is."""

    def __init__(self) -> None:
        self._listed: dict[str, Path] | None = None
        self._found: dict[str, str] = {}

    def __call__(self) -> dict[str, str]:
        """For each target the listed model that suits it best; those without one are left out."""
        listed = folders.models()
        if listed is not self._listed:  # ComfyUI asks for it with every schema
            there = _listed()
            best = {name: best_for(target, there, pins()) for name, target in TARGETS.items()}
            self._found = {name: model for name, model in best.items() if model is not None}
            self._listed = listed
        return self._found


fits = _Fits()


def misfit_note(model: VLM, target: str) -> str:
    """What is to be said where a VLM is not as wide as a target reads; "" = it is."""
    row, width = find_target(target), model.backbone.width
    if not fix_width(row, width):
        return ""
    best = best_for(row, _listed(), pins())
    return fix_width(row, width, f"Choose {best} on VLM Loader" if best else "")


def _listed() -> dict[str, ModelFacts]:
    """What the files of the listed models say; GGUF files, which are not loaded, say nothing."""
    found = {}
    for name, path in folders.models().items():
        said = path / "config.json" if path.is_dir() else path
        facts = _read(path, folders.time_and_size(said))
        if facts is not None:
            found[name] = facts
    return found


@functools.lru_cache(maxsize=256)  # asked for with each schema; the key changes with the file
def _read(path: Path, state: tuple[int, int] | None) -> ModelFacts | None:
    return read_facts(path)
