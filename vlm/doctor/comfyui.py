"""The ComfyUI on this machine: its version, and what its Python has."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.version import InvalidVersion, Version

from ..quoted import reason
from ..running.versions import TESTED
from .findings import Findings
from .versions import TRANSFORMERS, judge_version, untested

OLDEST = "0.26.0"  # as pyproject.toml's requires-comfyui
MODEL_FOLDERS = ("models/LLM/Qwen-VL", "models/VLM", "models/vlm", "models/text_encoders")
_ASK = (
    "import importlib.metadata as m, json\n"
    "names = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
    "print(json.dumps({n: names.get(n) for n in ('torch', 'transformers', 'einops')}))\n"
)
_PATIENCE = 120  # seconds: a Python on a network drive starts slowly


def examine_comfyui(
    path: str | Path | None = None, environment: Mapping[str, str] = os.environ
) -> Findings:
    """Looks at one ComfyUI.

    Args:
        path: Its folder; None = `COMFYUI_PATH`, or the first of the usual places where one is.
        environment: Where `COMFYUI_PATH` and `COMFYUI_PYTHON` are read.

    Returns:
        One fact, or none where there is no ComfyUI, which is no problem: the library needs none.
    """
    found = Findings()
    named = path or environment.get("COMFYUI_PATH")
    root = Path(named).expanduser() if named else next(_places(), None)
    if root is None:
        found.note("ComfyUI", "No ComfyUI was found. Name its folder with --comfyui to look at it.")
        return found
    if not (root / "main.py").is_file():
        text = f"{root} is not a ComfyUI: there is no main.py in it. Name the folder that has it."
        found.problem("ComfyUI", text)
        return found
    version = comfyui_version(root)
    python = find_python(root, environment)
    packages = _packages(python, found) if python is not None else {}
    if python is None:
        text = (
            f"No Python was found for {root}. Make a venv in it with its requirements.txt, or set "
            "COMFYUI_PYTHON."
        )
        found.problem("ComfyUI", text)
    found.facts.append(
        {
            "path": str(root),
            "version": version,
            "python": None if python is None else str(python),
            "packages": packages,
            "models": [str(folder) for folder in model_folders(root)],
        }
    )
    _judge(found, root, version, python, packages)
    return found


def _judge(
    found: Findings, root: Path, version: str, python: Path | None, packages: dict[str, str | None]
) -> None:
    if _older(version):
        text = f"ComfyUI {version} in {root} is older than {OLDEST}. Update it: git pull there."
        found.problem("ComfyUI", text)
    inside = Findings()
    for name in (TRANSFORMERS, "einops") if packages else ():
        judge_version(inside, name, packages.get(name), f"{python} -m pip install -U")
    for remark in inside.remarks:
        found.problem("ComfyUI", f"In ComfyUI's Python {remark.text}")
    there = packages.get(TRANSFORMERS)
    if there is not None and there not in TESTED:
        found.note("ComfyUI", f"In ComfyUI's Python {untested(there)}")
    if (root / "extra_model_paths.yaml").is_file():
        text = "extra_model_paths.yaml is not read here: name the folders in it to have them read."
        found.note("ComfyUI", text)


def comfyui_version(root: Path) -> str:
    """The text in comfyui_version.py, or "unknown"."""
    source = root / "comfyui_version.py"
    text = source.read_text(encoding="utf-8", errors="replace") if source.is_file() else ""
    said = re.search(r"__version__\s*=\s*[\"']([^\"']+)", text)
    return said[1] if said else "unknown"


def find_python(root: Path, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The Python that runs a ComfyUI; None where it has none of its own."""
    if environment.get("COMFYUI_PYTHON"):
        return Path(environment["COMFYUI_PYTHON"]).expanduser()
    inside = Path("Scripts/python.exe") if sys.platform == "win32" else Path("bin/python")
    places = [root / venv / inside for venv in ("venv", ".venv")]
    places.append(root.parent / "python_embeded" / "python.exe")
    # Not resolved: a venv's python is a link, and following it leaves the venv.
    return next((place for place in places if place.exists()), None)


def model_folders(root: Path) -> list[Path]:
    """Where VLMs lie in a ComfyUI, each real folder once."""
    folders: dict[Path, Path] = {}
    for name in MODEL_FOLDERS:
        if (root / name).is_dir():
            folders.setdefault((root / name).resolve(), root / name)
    return list(folders.values())


def _places() -> Iterator[Path]:
    """The usual places that hold a ComfyUI."""
    pack = Path(__file__).absolute().parents[2]  # <ComfyUI>/custom_nodes/<this pack>
    here = Path(os.environ.get("PWD", os.getcwd()))  # of a pack that is linked there, its real home
    places = [one.parent.parent for one in (pack, here) if one.parent.name == "custom_nodes"]
    places += [here, Path.home() / "comfy" / "ComfyUI", Path.home() / "ComfyUI"]
    for place in places:
        if (place / "main.py").is_file() and (place / "comfyui_version.py").is_file():
            yield place


def _packages(python: Path, found: Findings) -> dict[str, str | None]:
    """Versions that another Python has; empty where it cannot be asked."""
    try:
        answer = subprocess.run(
            [str(python), "-c", _ASK], capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
        return dict(json.loads(answer.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        text = (
            f"ComfyUI's Python {python} does not run ({reason(error)}). Make its environment again."
        )
        found.problem("ComfyUI", text)
        return {}


def _older(version: str) -> bool:
    try:
        return Version(version) < Version(OLDEST)
    except InvalidVersion:  # "unknown", or a build of someone's own
        return False
