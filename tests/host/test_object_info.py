"""The nodes as workflows know them: ids, inputs, outputs. A change here breaks saved workflows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snapshot import assert_same_as_file, grown_input, inputs_in_order

SNAPSHOT = Path(__file__).parent / "object_info.json"
# What they list depends on the machine.
FILE_LISTS = {
    ("VLMCLoader", "model"),
    ("VLMCReferenceStats", "source"),
    ("VLMCLoadConditioning", "file"),
    ("VLMCConnectorLoader", "connector"),
    ("VLMCT5Bridge", "embedder"),
    ("VLMCEncode", "system_file"),
    ("VLMCRewrite", "system_file"),
}


def one_input(node: str, name: str, required: bool, kind: Any, settings: dict) -> dict[str, Any]:
    entry = {"name": name, "required": required, "type": kind}
    entry |= {key: settings[key] for key in ("default", "min", "max") if key in settings}
    if "options" in settings:
        files = (node, name) in FILE_LISTS
        entry["options"] = "files" if files else settings["options"]
    if kind == "COMFY_AUTOGROW_V3":
        prefix, repeated, _ = grown_input(settings)
        bounds = {key: settings["template"][key] for key in ("min", "max")}
        entry |= {"prefix": prefix, "repeats": repeated, **bounds}
    if kind == "COMFY_MATCHTYPE_V3":
        entry["takes"] = settings["template"]["allowed_types"].split(",")
    return entry


def surface(node: str, info: dict[str, Any]) -> dict[str, Any]:
    """What a saved workflow or an API prompt depends on."""
    return {
        "inputs": [one_input(node, *each) for each in inputs_in_order(info)],
        "outputs": [
            {"name": name, "type": kind, "is_list": is_list}
            for name, kind, is_list in zip(
                info["output_name"], info["output"], info["output_is_list"], strict=True
            )
        ],
        "output_node": info["output_node"],
    }


def test_surface_is_the_committed_one(comfy):
    nodes = {node: comfy.object_info(node) for node in comfy.assert_pack_loaded()}
    assert_same_as_file({node: surface(node, info) for node, info in nodes.items()}, SNAPSHOT)


def test_ids_carry_the_prefix(comfy):
    assert all(node.startswith("VLMC") for node in comfy.assert_pack_loaded())


def test_first_input_and_output_share_a_type(comfy):
    """So that a bypassed node passes its conditioning through."""
    for node in comfy.assert_pack_loaded():
        info = comfy.object_info(node)
        measures = node in ("VLMCReferenceStats", "VLMCInspect")  # and gives no tokens
        if info["category"] == "VLM Conditioning/tokens" and not measures:
            _, required, kind, _ = inputs_in_order(info)[0]
            assert required and kind == info["output"][0], node
