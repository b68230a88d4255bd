"""Finds a ComfyUI checkout and the Python that runs it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]

HOW_TO = (
    "no ComfyUI found: git clone https://github.com/comfyanonymous/ComfyUI, make a venv inside it, "
    "pip install -r requirements.txt there, and set COMFYUI_PATH to it "
    "(COMFYUI_PYTHON if its Python is elsewhere)"
)


@dataclass(frozen=True)
class Checkout:
    """A ComfyUI source folder and the Python executable that has its requirements."""

    path: Path
    python: Path

    @property
    def version(self) -> str:
        """The text in comfyui_version.py, or "unknown"."""
        source = self.path / "comfyui_version.py"
        if not source.is_file():
            return "unknown"
        line = [x for x in source.read_text(encoding="utf-8").splitlines() if "__version__" in x]
        return line[0].split('"')[1] if line else "unknown"


def find_comfyui() -> Checkout | None:
    """Finds the ComfyUI that the host tests run.

    Looks at COMFYUI_PATH, then at the checkout this repository is installed in, then at
    ~/comfy/ComfyUI, which is where comfy-cli puts it.

    Returns:
        The checkout with its Python, or None when there is no checkout to test with.

    Raises:
        FileNotFoundError: COMFYUI_PATH or COMFYUI_PYTHON is set but points to nothing, or a
            checkout is there without a Python. Those are mistakes to report, not to skip.
    """
    named = os.environ.get("COMFYUI_PATH")
    if named:
        path = Path(named).expanduser().resolve()
        if not (path / "main.py").is_file():
            raise FileNotFoundError(f"COMFYUI_PATH is {path}, but there is no main.py in it.")
        return Checkout(path, _find_python(path))
    for path in (_around_repo(), Path.home() / "comfy" / "ComfyUI"):
        if path is not None and (path / "main.py").is_file():
            return Checkout(path, _find_python(path))
    return None


def _around_repo() -> Path | None:
    """The checkout of `<ComfyUI>/custom_nodes/<this repository>`, links left as they are.

    The working directory is tried too: a repository that is linked into custom_nodes resolves
    to where it really lies.
    """
    for repo in (REPO, Path(os.environ.get("PWD", os.getcwd()))):
        if repo.parent.name == "custom_nodes" and (repo.parent.parent / "main.py").is_file():
            return repo.parent.parent
    return None


def _find_python(path: Path) -> Path:
    named = os.environ.get("COMFYUI_PYTHON")
    if named:
        if not Path(named).expanduser().exists():
            raise FileNotFoundError(f"COMFYUI_PYTHON is {named}, but there is no such file.")
        return Path(named).expanduser()
    inside = Path("Scripts/python.exe") if sys.platform == "win32" else Path("bin/python")
    candidates = [path / venv / inside for venv in ("venv", ".venv")]
    candidates.append(path.parent / "python_embeded" / "python.exe")
    for python in candidates:
        # Not resolved: a venv's python is a link, and following it leaves the venv.
        if python.exists():
            return python
    raise FileNotFoundError(
        f"{path} has no Python of its own: make a venv in {path / 'venv'} with its "
        "requirements.txt, or set COMFYUI_PYTHON."
    )
