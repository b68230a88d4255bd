"""The help pages quote error messages; each quote must be one that the code can raise."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from collections.abc import Collection
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))
SECTIONS = [
    "When to use it",
    "Inputs",
    "Outputs",
    "How it works",
    "Recommended settings",
    "Typical mistakes",
    "Cost",
]
# Letters of a message's fixed part, so that none matches everything: filled in, and as it is.
LEAST_FILLED, LEAST_PLAIN = 15, 30


@functools.cache
def words() -> ModuleType:
    """nodes/words.py by itself: it needs no ComfyUI."""
    spec = importlib.util.spec_from_file_location("words", ROOT / "nodes" / "words.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def messages() -> list[re.Pattern[str]]:
    """The texts of the code as patterns: what is filled in matches anything."""
    patterns = []
    for file in [*(ROOT / "vlm").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else None for p in node.values]
                least = LEAST_FILLED
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts, least = [node.value], LEAST_PLAIN
            else:
                continue
            if sum(len(part or "") for part in parts) < least:
                continue
            # As the library says it, and as nodes do: with widgets of other nodes, and with theirs.
            for said in (parts, *(spoken(parts, own) for own in ((), words().WIDGETS))):
                pattern = "".join(".+" if part is None else re.escape(part) for part in said)
                patterns.append(re.compile(pattern + ".*"))
    return patterns


def spoken(parts: list[str | None], own: Collection[str]) -> list[str | None]:
    """What a node that has the widgets `own` makes of the parts of a message."""
    return [part and words().in_node_words(part, own) for part in parts]


def quotes(page: Path) -> list[str]:
    lines = page.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("> ") for line in lines if line.startswith("> ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_quoted_errors_exist(page):
    known = messages()
    strange = [quote for quote in quotes(page) if not any(p.fullmatch(quote) for p in known)]
    assert not strange


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_are_built_alike(page):
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == SECTIONS
    assert quotes(page), "no error is quoted"
    assert "```" in text.split("##")[0], "no picture of where it sits"
    assert 40 <= len(text.splitlines()) <= 110
    picture = text.split("```")[1].splitlines()
    assert max(map(len, picture)) <= 28, "wider than the help panel"
    assert not re.search(r"\]\((?!https?:)", text), "a relative link leads nowhere in ComfyUI"
