"""What a person finds on a node: help page, names, tooltips, search words."""

from __future__ import annotations

import json
import urllib.error

import pytest
from comfy_find import REPO
from comfy_host import PACK_FOLDER
from snapshot import grown_input, inputs_in_order, updating

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


@pytest.fixture(scope="module")
def nodes(comfy):
    return {node: comfy.object_info(node) for node in comfy.assert_pack_loaded()}


def help_page(comfy, node):
    """The page's own order: the locale's file, then the file for all."""
    folder = comfy.object_info(node)["python_module"].removeprefix("custom_nodes.")
    for path in (f"{node}/en.md", f"{node}.md"):
        try:
            return comfy.request(f"/extensions/{folder}/docs/{path}").decode()
        except urllib.error.HTTPError as error:
            assert error.code == 404, path
    return None


def test_help_page_names_every_input_and_output(comfy, nodes):
    for node, info in nodes.items():
        text = help_page(comfy, node)
        assert text, f"{node} has no help page"
        assert text.startswith(f"# {info['display_name']}\n"), node
        names = [name for name, *_ in inputs_in_order(info)] + info["output_name"]
        assert not [name for name in names if f"`{name}`" not in text], node


def test_help_page_lists_inputs_in_the_order_of_the_node(comfy, nodes):
    for node, info in nodes.items():
        text = help_page(comfy, node)
        listed = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
        names = [name for name, *_ in inputs_in_order(info)]
        assert listed[: len(names)] == names, node


def test_help_page_says_every_start_value(comfy, nodes):
    missing = []
    for node, info in nodes.items():
        rows = [line for line in help_page(comfy, node).splitlines() if line.startswith("| `")]
        for name, _, kind, settings in inputs_in_order(info):
            if kind not in WIDGETS or "default" not in settings:
                continue
            row = next(row for row in rows if row.startswith(f"| `{name}` |"))
            start = f" Start: {shown(settings['default'])}."
            if f"{start} " not in row:
                missing.append(f"{node}: {name}")
    assert not missing


def shown(default):
    """A start value as the help pages write it."""
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default) or "empty"


def test_locale_is_served(comfy, nodes):
    if updating():
        pytest.skip("the server read the file before it was rewritten")
    served = comfy.get("/i18n")["en"]["nodeDefs"]
    stored = json.loads((REPO / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert served.items() >= stored.items()
    assert set(nodes) == set(stored)


def test_every_node_is_found_and_described(nodes):
    for node, info in nodes.items():
        assert "VLM" in info["search_aliases"], node
        assert info["description"].endswith("."), node
        assert info["display_name"] != node
        assert info["category"].split("/")[0] == "VLM Conditioning", node
        assert info["python_module"] == f"custom_nodes.{PACK_FOLDER}"


def test_every_input_has_a_tooltip(nodes):
    for node, info in nodes.items():
        for name, _, kind, settings in inputs_in_order(info):
            if kind == "COMFY_AUTOGROW_V3":  # the page shows its slots only
                _, _, settings = grown_input(settings)
            assert settings.get("tooltip"), f"{node}: {name}"


def test_every_output_has_a_tooltip(nodes):
    bare = [node for node, info in nodes.items() if not all(info.get("output_tooltips") or [None])]
    assert not bare
