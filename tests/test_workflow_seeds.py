"""Seeds of the shipped workflows stay: who opens one gets the picture that its note speaks of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows"


@pytest.mark.parametrize("name", sorted(path.stem for path in WORKFLOWS.glob("*.json")))
def test_seeds_are_fixed(name):
    graph = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    inner = graph.get("definitions", {}).get("subgraphs", [])
    for node in (node for one in (graph, *inner) for node in one["nodes"]):
        assert "randomize" not in (node.get("widgets_values") or []), node["type"]
