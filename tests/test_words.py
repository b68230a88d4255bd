"""What the library says of arguments, said of widgets by the nodes."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import vlm
from vlm.model import VLM
from vlm.running.hidden_states import HiddenStates

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def words():
    """nodes/words.py by itself: it needs no ComfyUI."""
    spec = importlib.util.spec_from_file_location("words", ROOT / "nodes" / "words.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_another_nodes_widget_is_named_with_its_node(words):
    said = words.in_node_words("Set `depth` to 35.", {"hidden_states", "layers"})
    assert said == "Set `depth` on VLM Encode to 35."


def test_its_own_widget_and_what_is_no_widget_stay(words):
    text = "Set `layers` to `auto` or `-2`."
    assert words.in_node_words(text, {"layers"}) == text
    assert words.in_node_words("Set `layers`.") == "Set `layers` on Hidden Layer Select."


def test_functions_become_nodes(words):
    said = words.in_node_words("Take tokens first, with `select_layers`.")
    assert said == "Take tokens first, with Hidden Layer Select."


def test_a_sentence_that_names_the_node_already_stays(words):
    text = "Set `depth` on VLM Encode to 35."
    assert words.in_node_words(text) == text


def make_node(words, error, tell=lambda line: None):
    class Node:
        @classmethod
        def define_schema(cls):
            return SimpleNamespace(inputs=[SimpleNamespace(id="layers")])

        @classmethod
        def execute(cls, value):
            if error is not None:
                raise error
            return cls, value

    return words.speaking(Node, tell)


@pytest.mark.parametrize("kind", [ValueError, TypeError, FileNotFoundError])
def test_a_nodes_errors(words, kind):
    told = []
    node = make_node(words, kind("Set `depth` or `layers` to one of these."), told.append)
    with pytest.raises(kind) as caught:
        node.execute(1)
    assert str(caught.value) == "Set `depth` on VLM Encode or `layers` to one of these."
    assert told == [str(caught.value)]


def test_other_errors_and_results_pass(words):
    own = ValueError("The prompt is empty.")
    with pytest.raises(ValueError) as caught:
        make_node(words, own).execute(1)
    assert caught.value is own
    with pytest.raises(KeyError):
        make_node(words, KeyError("`depth`")).execute(1)
    node = make_node(words, None)
    assert node.execute(5) == (node, 5)


def test_the_table_speaks_of_what_there_is(words):
    """Its keys are arguments and functions of the library, its nodes and widgets are there."""
    calls = [getattr(vlm, name) for name in vlm.__all__ if callable(getattr(vlm, name))]
    calls += [VLM.encode, VLM.rewrite, HiddenStates.layer]
    arguments = {name for call in calls for name in inspect.signature(call).parameters}
    arguments.add("pooled_output")  # an option of entries
    assert {*words.WIDGETS, *words.EVERYWHERE} <= arguments
    assert set(words.NODES) <= {call.__name__ for call in calls}
    sources = [ast.parse(file.read_text("utf-8")) for file in (ROOT / "nodes").glob("*.py")]
    strings = {
        node.value
        for source in sources
        for node in ast.walk(source)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    titles = {"VLM Encode Image/Text": "VLM Encode"}
    shown = {titles.get(text, text) for text in strings}
    for said in [*words.WIDGETS.values(), *words.EVERYWHERE.values()]:
        widget, node = re.search(r"`(\w+)`[^`]* on ([A-Z].*)$", said).groups()
        assert widget in strings and node in shown
    for said in words.NODES.values():
        assert set(re.split(" or | and ", said)) <= shown


# Sentences that are read in ComfyUI alone.
IN_COMFYUI = {
    "vlm/running/native.py": "runs ComfyUI's own CLIP",
    "vlm/running/native_kinds.py": "runs ComfyUI's own CLIP",
    "vlm/running/native_preprocessor.py": "runs ComfyUI's own CLIP",
    "vlm/running/hidden_states.py": "raised inside ComfyUI's own nodes, whose words are not ours",
    "vlm/weights/fp8.py": "ComfyUI is what reads these files",
    "vlm/weights/gguf.py": "ComfyUI with another pack is what reads these files",
    "vlm/weights/tensor_names.py": "ComfyUI is what reads these files",
    "vlm/conditioning/image_prompt.py": "one node's whole way",
    "vlm/conditioning/image_prompt_inside.py": "one node's whole way",
    "vlm/conditioning/image_prompt_ways.py": "one node's whole way",
}


def titles_of_nodes():
    """What people call the nodes, in full and short."""
    locale = json.loads((ROOT / "locales/en/nodeDefs.json").read_text("utf-8"))
    titles = {node["display_name"] for node in locale.values()}
    short = {"VLM Encode", "VLM Rewrite", "Reference Statistics", "Check Target", "Inspect Tokens"}
    return {title.split(" (")[0] for title in titles} | short | {"widget"} | set(locale)


def spoken(source):
    """Its texts, docstrings left out."""
    tree = ast.parse(source)
    silent = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in silent
        ):
            yield node.lineno, node.value


def test_the_library_names_no_node():
    titles = titles_of_nodes()
    assert len(titles) > 25
    found = []
    for file in sorted((ROOT / "vlm").rglob("*.py")):
        place = file.relative_to(ROOT).as_posix()
        if place.startswith(("vlm/cli/", "vlm/doctor/")) or place in IN_COMFYUI:
            continue
        for line, text in spoken(file.read_text("utf-8")):
            found += [f"{place}:{line}: {title}" for title in titles if title in text]
    assert not found, "The library speaks of arguments and functions (nodes/words.py)"


def test_out_of_memory_and_the_log_speak_of_widgets(words):
    error = torch.cuda.OutOfMemoryError("`encode`: choose a smaller `max_pixels`.")
    with pytest.raises(torch.cuda.OutOfMemoryError, match="^VLM Encode: .*`max_pixels` on VLM Enc"):
        make_node(words, error).execute(1)
    record = logging.LogRecord("a", logging.WARNING, "", 1, "%d: `filter_tokens`", (3,), None)
    assert words.InNodeWords().filter(record)
    assert record.getMessage() == "3: Token Filter"


# Handlers that put a place before a sentence of our own.
OUR_SENTENCES = {
    "nodes/image_prompt.py": "why pictures are refused",
    "vlm/batch/folder.py": "why a job of a folder is refused",
    "vlm/batch/jobs.py": "why a line is refused",
    "vlm/conditioning/sweep_values.py": "why layers are refused",
    "vlm/evaluate/cases.py": "why a case or a text file is refused",
    "vlm/tokens/shape_text.py": "why a dot, a box or a stroke is refused",
    "vlm/tokens/stats.py": "why statistics are refused",
}


def quoted_errors(source):
    """F-strings that hold an error as it was caught."""
    for handler in ast.walk(ast.parse(source)):
        if isinstance(handler, ast.ExceptHandler) and handler.name:
            for node in ast.walk(handler):
                value = node.value if isinstance(node, ast.FormattedValue) else None
                if isinstance(value, ast.Call) and ast.unparse(value.func) in ("str", "repr"):
                    value = value.args[0]
                if isinstance(value, ast.Name) and value.id == handler.name:
                    yield node.lineno


def test_errors_of_others_are_quoted_in_a_line():
    """`reason` escapes and cuts them: they may quote any file."""
    found = {}
    for file in sorted([*(ROOT / "vlm").rglob("*.py"), *(ROOT / "nodes").glob("*.py")]):
        place = file.relative_to(ROOT).as_posix()
        found[place] = [f"{place}:{line}" for line in quoted_errors(file.read_text("utf-8"))]
    ours = {place for place, lines in found.items() if lines and place in OUR_SENTENCES}
    assert not [line for place, lines in found.items() if place not in ours for line in lines]
    assert ours == set(OUR_SENTENCES)
