"""`pip install .` gives the library `vlm`, whole and alone."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import vlm

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow
ONLY_VLM = (
    "import vlm; m = vlm.load('tiny'); print(vlm.__file__, vlm.__version__, m.encode('a').width)"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built beside the tree, which stays clean."""
    place = tmp_path_factory.mktemp("wheel")
    tree = place / "tree"
    tree.mkdir()
    for name in ("vlm", "README.md", "LICENSE", "pyproject.toml"):
        (tree / name).symlink_to(ROOT / name)
    call(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
        + ["-w", place, tree],
        place,
    )
    (made,) = place.glob("*.whl")
    return made


def call(command, folder):
    quiet = {**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [str(part) for part in command], cwd=folder, env=quiet, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_it_holds_the_library_alone(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if ".dist-info/" not in name]
    own = [path for path in (ROOT / "vlm").rglob("*") if path.is_file()]
    own = {path.relative_to(ROOT).as_posix() for path in own if path.suffix != ".pyc"}
    assert set(names) == own
    assert {"vlm/py.typed", "vlm/running/expected_states.json"} <= own


def test_it_runs_from_elsewhere(wheel, tmp_path):
    place = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(place)
    file, version, width = call([sys.executable, "-c", ONLY_VLM], place).split()
    assert Path(file).is_relative_to(place) and version == vlm.__version__ and width == "64"
    assert "--json" in call([sys.executable, "-m", "vlm", "doctor", "--help"], place)
