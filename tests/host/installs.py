"""Packages that host tests need beside ComfyUI's own, each in a folder of its own.

Neither ComfyUI's environment nor that of the tests is changed. The folders lie in `build/`, which
git ignores, and are used again by the next run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from comfy_find import REPO

FOLDERS = REPO / "build" / "host-tests"
FRONTEND = "COMFYUI_FRONTEND"
FRONTEND_PACKAGE = "comfyui-frontend-package"
PIP_SECONDS = 600
MATPLOTLIB = (
    "matplotlib>=3.8", "contourpy", "cycler", "fonttools", "kiwisolver", "packaging", "pyparsing",
    "python-dateutil", "six",
)  # fmt: skip


class InstallFailed(Exception):
    """pip could not install a package; the text ends with what it said."""


def own_pytest(python: Path) -> Path:
    """A folder with pytest and pytest-timeout for another Python, to be put on its PYTHONPATH.

    Args:
        python: an interpreter that need not have pytest or pip; nothing is written beside it.
    """
    folder = FOLDERS / f"pytest-python{_version(python)}"
    return _installed(folder, ["pytest>=8", "pytest-timeout>=2.3"], python=python)


def own_matplotlib(python: Path) -> Path | None:
    """A folder with matplotlib for ComfyUI's Python, to be put on its PYTHONPATH.

    It is what the pack's requirements.txt names and ComfyUI's own does not. numpy and Pillow stay
    those that ComfyUI has.

    Returns:
        None where it is installed already.
    """
    has = [str(python), "-c", "import matplotlib"]
    if subprocess.run(has, capture_output=True).returncode == 0:
        return None
    folder = FOLDERS / f"matplotlib-python{_version(python)}"
    return _installed(folder, ["--no-deps", *MATPLOTLIB], python=python)


def own_gguf(python: Path) -> Path:
    """A folder with what ComfyUI-GGUF needs beside ComfyUI, to be put on its PYTHONPATH."""
    folder = FOLDERS / f"gguf-python{_version(python)}"
    wanted = ["--no-deps", "gguf>=0.13", "protobuf", "sentencepiece", "pyyaml", "tqdm"]
    return _installed(folder, wanted, python=python)


def chosen_frontend() -> Path | None:
    """The folder of the page's files that COMFYUI_FRONTEND asks for.

    Returns:
        None where it is empty or "pinned": ComfyUI serves what is installed beside it. Otherwise
        what `--front-end-root` takes: from the newest comfyui-frontend-package ("newest"), from one
        version of it ("1.58.1"), or the folder that the variable names.
    """
    wanted = os.environ.get(FRONTEND, "")
    if wanted in ("", "pinned"):
        return None
    if (Path(wanted).expanduser() / "index.html").is_file():
        return Path(wanted).expanduser().resolve()
    version = _newest(FRONTEND_PACKAGE) if wanted == "newest" else wanted
    folder = FOLDERS / f"frontend-{version}"
    _installed(folder, ["--no-deps", f"{FRONTEND_PACKAGE}=={version}"])
    return folder / "comfyui_frontend_package" / "static"


def _version(python: Path) -> str:
    """`3.12`."""
    says = [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(says, capture_output=True, text=True, check=True).stdout.strip()


def _newest(package: str) -> str:
    """The newest version of a package that the index has."""
    asked = ["--dry-run", "--quiet", "--ignore-installed", "--no-deps", "--report", "-", package]
    (found,) = json.loads(_pip("install", *asked))["install"]
    return found["metadata"]["version"]


def _installed(folder: Path, wanted: list[str], python: Path | None = None) -> Path:
    """The folder, with these packages in it; made where it is not there yet.

    It comes into being with its last step, a rename, so that test processes side by side may all
    try: the first one wins.
    """
    if folder.is_dir():
        return folder
    FOLDERS.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=FOLDERS))
    into = ("--python", str(python)) if python else ()
    try:
        _pip(*into, "install", "--quiet", "--target", str(made), *wanted)
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS)
    if ran.returncode:
        raise InstallFailed(f"{' '.join(command)} failed.\n{ran.stderr[-3000:]}")
    return ran.stdout
