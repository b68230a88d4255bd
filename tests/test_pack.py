"""What people get who install the pack: all that ComfyUI needs of it, and nothing else.

`comfy node pack` takes what git tracks, without what .comfyignore names; PACKED=node.zip has these
tests look into what it made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKED = os.environ.get("PACKED", "")
WANTED = {
    "vlm", "nodes", "workflows", "web", "subgraphs", "locales", "docs", "__init__.py",
    "pyproject.toml", "requirements.txt", "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md",
    ".comfyignore",
}  # fmt: skip
MOST_BYTES = 16_000_000


def git(*words: str, given: str = "", may_fail: bool = False) -> list[str]:
    done = subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, input=given, check=not may_fail
    )
    return [name for name in done.stdout.split("\0") if name]


@pytest.fixture(scope="module")
def packed() -> set[str]:
    """Names of the files, with forward slashes."""
    if PACKED:
        with zipfile.ZipFile(ROOT / PACKED) as file:
            return set(file.namelist())
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is packed is what git tracks")
    tracked = git("ls-files", "-z")
    rules = f"core.excludesFile={ROOT / '.comfyignore'}"
    left_out = git(
        "-c", rules, "check-ignore", "--no-index", "-z", "--stdin",
        given="\0".join(tracked), may_fail=True,  # its exit code says whether there were any
    )  # fmt: skip
    assert left_out
    return set(tracked) - set(left_out)


def test_only_what_comfyui_needs_is_packed(packed):
    assert {name.split("/")[0] for name in packed} == WANTED
    assert sum((ROOT / name).stat().st_size for name in packed) < MOST_BYTES


def test_all_that_comfyui_needs_is_packed(packed):
    for folder, ending in (
        ("vlm", ".py"), ("vlm", ".json"), ("nodes", ".py"), ("web", ".js"), ("web", ".md"),
        ("locales", ".json"), ("subgraphs", ".json"), ("workflows", ".json"), ("workflows", ".jpg"),
    ):  # fmt: skip
        there = {file.relative_to(ROOT).as_posix() for file in (ROOT / folder).rglob(f"*{ending}")}
        assert there and there <= packed, (folder, ending, sorted(there - packed)[:3])


def test_translations_that_comfyui_reads_are_of_every_language(packed):
    languages = {name.split("/")[1] for name in packed if name.startswith("locales/")}
    assert languages >= {"en", "zh", "ja"}
    for language in languages:
        name = f"locales/{language}/nodeDefs.json"
        assert name in packed and json.loads((ROOT / name).read_text(encoding="utf-8"))
