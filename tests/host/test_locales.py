"""locales/en is made from the nodes: names and tooltips by node id, for translators."""

from __future__ import annotations

from typing import Any

from comfy_find import REPO
from snapshot import GROWN_SLOTS, assert_same_as_file, grown_input, inputs_in_order

EN = REPO / "locales" / "en" / "nodeDefs.json"
# The page compiles these texts as vue-i18n messages, in which these characters mean something.
SYNTAX = set("{}@|")


def words(name: str, settings: dict[str, Any]) -> dict[str, str]:
    entry = {"name": settings.get("display_name") or name}
    if settings.get("tooltip"):
        entry["tooltip"] = settings["tooltip"]
    return entry


def inputs(info: dict[str, Any]) -> dict[str, dict[str, str]]:
    """By the names that slots have on the page, their dots as underscores."""
    entries = {}
    for name, _, kind, settings in inputs_in_order(info):
        entries[name] = words(name, settings)
        if kind == "COMFY_AUTOGROW_V3":
            prefix, _, repeated = grown_input(settings)
            # More slots than these would only repeat the words.
            for slot in (f"{prefix}{i}" for i in range(GROWN_SLOTS)):
                entries[f"{name}_{slot}"] = words(slot, repeated)
    return entries


def outputs(info: dict[str, Any]) -> dict[str, dict[str, str]]:
    tooltips = info.get("output_tooltips") or [None] * len(info["output_name"])
    pairs = zip(info["output_name"], tooltips, strict=True)
    return {str(i): words(name, {"tooltip": tooltip}) for i, (name, tooltip) in enumerate(pairs)}


def node_defs(comfy: Any) -> dict[str, Any]:
    nodes = {node: comfy.object_info(node) for node in comfy.assert_pack_loaded()}
    return {
        node: {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": inputs(info),
            "outputs": outputs(info),
        }
        for node, info in nodes.items()
    }


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [text for part in value.values() for text in texts(part)]


def test_en_says_what_the_nodes_say(comfy):
    assert_same_as_file(node_defs(comfy), EN)


def test_texts_are_plain_for_the_page(comfy):
    wrong = [text for text in texts(node_defs(comfy)) if SYNTAX & set(text)]
    assert not wrong


def test_no_key_has_a_dot(comfy):
    for node in node_defs(comfy).values():
        assert not [key for key in node["inputs"] if "." in key]
