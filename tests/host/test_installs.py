"""Which frontend the servers of the tests show, and packages installed beside ComfyUI's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import installs
import pytest

WHERE = "import comfyui_frontend_package as f; print(f.__path__[0])"


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """An empty place for what is installed."""
    monkeypatch.setattr(installs, "FOLDERS", tmp_path / "installed")
    return tmp_path / "installed"


@pytest.mark.parametrize("wanted", ["", "pinned"])
def test_what_comfyui_pins_needs_no_folder(monkeypatch, folders, wanted):
    monkeypatch.setenv(installs.FRONTEND, wanted)
    assert installs.chosen_frontend() is None and not folders.exists()


def test_a_folder_is_taken_as_it_is(monkeypatch, folders, tmp_path):
    (tmp_path / "index.html").touch()
    monkeypatch.setenv(installs.FRONTEND, str(tmp_path))
    assert installs.chosen_frontend() == tmp_path.resolve() and not folders.exists()


def test_a_version_that_cannot_be_installed_leaves_nothing(monkeypatch, folders):
    monkeypatch.setenv(installs.FRONTEND, "0.0.1.never")
    with pytest.raises(
        installs.InstallFailed, match=r"(?s)0\.0\.1\.never failed\..*0\.0\.1\.never"
    ):
        installs.chosen_frontend()
    assert list(folders.iterdir()) == []


def test_two_processes_may_install_the_same(monkeypatch, folders):
    """The slower one finds the folder of the faster one, and takes it."""

    def slow(*arguments: str) -> str:
        Path(arguments[arguments.index("--target") + 1], "mine").touch()
        (folders / "frontend-1.2.3").mkdir()
        (folders / "frontend-1.2.3" / "theirs").touch()
        return ""

    monkeypatch.setenv(installs.FRONTEND, "1.2.3")
    monkeypatch.setattr(installs, "_pip", slow)
    static = installs.chosen_frontend()
    assert static == folders / "frontend-1.2.3" / "comfyui_frontend_package" / "static"
    assert [each.name for each in folders.iterdir()] == ["frontend-1.2.3"]
    assert [each.name for each in (folders / "frontend-1.2.3").iterdir()] == ["theirs"]


def test_the_page_is_the_chosen_one(comfy, frontend, checkout):
    if frontend is None:
        says = subprocess.run(
            [str(checkout.python), "-c", WHERE], capture_output=True, text=True, check=True
        )
        frontend = Path(says.stdout.strip()) / "static"
    assert comfy.request("/") == (frontend / "index.html").read_bytes()
