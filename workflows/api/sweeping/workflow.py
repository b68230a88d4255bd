"""A workflow in API format: its nodes by id, each with class_type and inputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Prompt = dict[str, dict[str, Any]]
ENCODERS = ("VLMCEncode", "VLMCImagePrompt", "VLMCRewrite", "VLMCImageInfluence")
# What inputs of other nodes that hold a prompt are called, the likeliest first.
WORDS = ("prompt", "text", "value", "string", "positive")
FOLDER = Path(__file__).parents[1]


class SweepError(Exception):
    """What went wrong, in words for the person who ran the script."""


def load_prompt(path: Path) -> Prompt:
    """Reads a workflow in API format: nodes by id, each with class_type and inputs."""
    beside = FOLDER / path
    path = path if path.exists() or not beside.exists() else beside
    try:
        prompt = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SweepError(f"There is no workflow {path}.") from None
    except (OSError, ValueError) as error:
        raise SweepError(f"{path} cannot be read as JSON: {error}") from None
    nodes = prompt.values() if isinstance(prompt, dict) else [None]
    if not all(isinstance(node, dict) and "class_type" in node for node in nodes):
        raise SweepError(
            f"{path} is not in API format. Take a file of workflows/api, or save yours in ComfyUI "
            "with Export (API)."
        )
    return prompt


def find_place(prompt: Prompt, place: str) -> tuple[list[dict[str, Any]], str, str]:
    """The nodes that `NODE.INPUT` means.

    NODE is a class (all nodes of it), CLASS#ID or #ID (one node), or a title. Titles and inputs may
    have dots: the first dot before which a node's name ends counts.

    Returns:
        The nodes, what the place calls them, and the input; no node where there is none such.
    """
    parts = place.split(".")
    for at in range(1, len(parts)):
        name, inner = ".".join(parts[:at]).strip(), ".".join(parts[at:]).strip()
        nodes = nodes_called(prompt, name)
        if nodes:
            return nodes, name, inner
    return [], parts[0].strip(), ".".join(parts[1:]).strip()


def nodes_called(prompt: Prompt, name: str) -> list[dict[str, Any]]:
    """Nodes by class, CLASS#ID, #ID or title."""
    kind, mark, number = name.rpartition("#")
    if mark and number in prompt and kind in ("", prompt[number]["class_type"]):
        return [prompt[number]]
    of_class = [node for node in prompt.values() if node["class_type"] == name]
    titled = [node for node in prompt.values() if node.get("_meta", {}).get("title") == name]
    return of_class or titled


def set_place(prompt: Prompt, place: str, value: Any) -> None:
    """Sets an input of the nodes that `NODE.INPUT` means; see `find_place`.

    Raises:
        SweepError: no such node or input.
    """
    nodes, name, inner = find_place(prompt, place)
    _set(prompt, nodes, name, inner, value)


def set_values(prompt: Prompt, kinds: Sequence[str], name: str, value: Any) -> None:
    """Sets an input of all nodes of some classes, as far as no wire feeds it.

    Raises:
        SweepError: no such node or input.
    """
    nodes = [node for node in prompt.values() if node["class_type"] in kinds]
    _set(prompt, nodes, " or ".join(kinds), name, value)


def _set(prompt: Prompt, nodes: list[dict[str, Any]], called: str, name: str, value: Any) -> None:
    free = [node for node in nodes if not isinstance(node["inputs"].get(name, []), list)]
    if not free:
        there = sorted({node["class_type"] for node in prompt.values()})
        why = "no such input, or a wire feeds it" if nodes else f"it has {', '.join(there)}"
        raise SweepError(f"The workflow has no {called} to set {name} on: {why}.")
    for node in free:
        node["inputs"][name] = value


def parse_value(text: str) -> Any:
    """A number, true or false where the text is one; else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def set_words(prompt: Prompt, words: str) -> None:
    """Sets the prompt of what reads it with the VLM, and of encoders that had the same words.

    Raises:
        SweepError: neither VLM Encode nor Image Prompt, or its prompt comes over a wire from a node
            without one.
    """
    encoders = [node for node in prompt.values() if node["class_type"] in ENCODERS]
    if not encoders:
        raise SweepError(
            "The workflow has no VLM Encode or Image Prompt, so --prompt has nowhere to go."
        )
    for encoder in encoders:
        old = encoder["inputs"].get("prompt", "")
        if isinstance(old, list):
            inputs, name = find_words(prompt, old)
            inputs[name] = words
            continue
        for node in prompt.values():
            for name in ("prompt", "text"):
                # No words are no words in common: an empty negative stays empty.
                same = node["inputs"].get(name) == old
                if same and (old or node is encoder):
                    node["inputs"][name] = words


def find_words(prompt: Prompt, wire: list[Any]) -> tuple[dict[str, Any], str]:
    """The inputs of the node where words stand that come over a wire, and the name of theirs.

    Raises:
        SweepError: none of a node's inputs can be told to be words, or to bring them.
    """
    passed: set[str] = set()
    node = str(wire[0])
    while node not in passed:
        passed.add(node)
        inputs = prompt.get(node, {}).get("inputs", {})
        for name in WORDS:
            if isinstance(inputs.get(name), str):
                return inputs, name
        wires = [inputs[name] for name in WORDS if isinstance(inputs.get(name), list)]
        if not wires:
            break
        node = str(wires[0][0])
    kind = prompt.get(node, {}).get("class_type", "CLASS")
    raise SweepError(
        f"The VLM's prompt comes over a wire from {title(prompt, node)}, which has no text called "
        f"{', '.join(WORDS[:-1])} or {WORDS[-1]} for --prompt to replace. Set the words where they "
        f"stand: --set {kind}.INPUT=WORDS."
    )


def title(prompt: Prompt, node: str) -> str:
    """A node as the person knows it: its title and id."""
    found = prompt.get(str(node), {})
    name = found.get("_meta", {}).get("title") or found.get("class_type", "node")
    return f"{name} (node {node})"
