"""The whole examination, part by part."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .comfyui import examine_comfyui
from .devices import examine_devices
from .disk import examine_disks
from .families import check_family, examine_families
from .findings import Findings, Remark
from .models import examine_models, usual_places
from .versions import examine_versions


@dataclass(frozen=True)
class Examination:
    """What was found, by part: versions, families, devices, models, comfyui, disks.

    Attributes:
        parts: Findings by name, in the order of the report.
    """

    parts: dict[str, Findings]

    @property
    def remarks(self) -> list[Remark]:
        """All of them, problems first."""
        every = [remark for part in self.parts.values() for remark in part.remarks]
        return sorted(every, key=lambda remark: not remark.problem)

    @property
    def healthy(self) -> bool:
        """Whether nothing keeps anything from working."""
        return not any(remark.problem for remark in self.remarks)

    def as_data(self) -> dict[str, Any]:
        """Builtins alone, for JSON."""
        data: dict[str, Any] = {name: part.facts for name, part in self.parts.items()}
        for key, problem in (("problems", True), ("notes", False)):
            chosen = [one for one in self.remarks if one.problem == problem]
            data[key] = [{"where": one.where, "text": one.text} for one in chosen]
        return data | {"healthy": self.healthy}


def examine(
    places: Sequence[Path] = (),
    comfyui: Path | None = None,
    *,
    check: Callable[[str], str | None] | None = check_family,
) -> Examination:
    """Examines this installation.

    Args:
        places: Models and folders of models to look at, beside those of Hugging Face's cache and of
            ComfyUI.
        comfyui: ComfyUI's folder; None = the first that is found.
        check: Self-check of a family; None = none is run.
    """
    host = examine_comfyui(comfyui)
    root = Path(host.facts[0]["path"]) if host.facts else None
    inside = [Path(folder) for fact in host.facts for folder in fact["models"]]
    parts = {
        "versions": examine_versions(),
        "families": Findings() if check is None else examine_families(check),
        "devices": examine_devices(),
        "models": examine_models(places, [*inside, *usual_places()], root),
        "comfyui": host,
    }
    disks = [Path.cwd(), Path(tempfile.gettempdir()), *places, *inside]
    return Examination(parts | {"disks": examine_disks(disks)})
