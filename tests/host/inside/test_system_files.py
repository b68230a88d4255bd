"""System prompts from files: what is listed, what a node says of the rest when it is queued."""

from __future__ import annotations

import os

import pytest

TEXT = "Write one dense paragraph."


@pytest.fixture
def root(folders, tmp_path):
    """models/vlm_prompts."""
    place = tmp_path / "models" / "vlm_prompts"
    place.mkdir()
    return place


@pytest.fixture(params=["encode.VLMEncode", "rewrite.VLMRewrite"])
def node(request):
    import importlib

    module, _, name = request.param.partition(".")
    return getattr(importlib.import_module(f"pack.nodes.{module}"), name)


def options(node) -> list[str]:
    (widget,) = [each for each in node.define_schema().inputs if each.id == "system_file"]
    assert widget.optional and widget.default == "none"
    return list(widget.options)


def test_files_are_listed_behind_none(folders, root, node):
    assert options(node) == ["none"]
    (root / "krea2").mkdir()
    for name in ("b.txt", "krea2/expansion.TXT", "notes.md"):
        (root / name).write_text(TEXT)
    from pack.nodes import system_file

    system_file.FILES.forget()
    assert options(node) == ["none", "b.txt", "krea2/expansion.TXT"]
    assert node.validate_inputs(system_file="krea2/expansion.TXT") is True
    assert system_file.system_prompt("", "krea2/expansion.TXT") == TEXT


def test_odd_files_are_left_out_with_a_line_and_told_when_chosen(root, node, caplog):
    (root / "good.txt").write_text(TEXT)
    odd = {"utf16.txt": TEXT.encode("utf-16"), "empty.txt": b"", "huge.txt": b"a" * 100_000}
    for name, content in odd.items():
        (root / name).write_bytes(content)
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "pipe.txt")
    (root / "loop.txt").symlink_to(root / "loop.txt")
    assert options(node) == ["none", "good.txt"]
    for name, why in (("utf16", "not text in UTF-8"), ("empty", "is empty"), ("huge", "64 KB")):
        (line,) = [line for line in caplog.text.splitlines() if f"{name}.txt" in line]
        assert "system_file leaves out" in line and why in line
        assert why in node.validate_inputs(system_file=f"{name}.txt")


def test_a_file_that_is_missing_is_told_with_what_lies_there(root, node):
    def said(name):
        return node.validate_inputs(system_file=name)

    assert said("pe.txt") == (
        "There is no system prompt file called 'pe.txt'. Put it (.txt in UTF-8) into "
        "models/vlm_prompts, where none lies now; then reload the node definitions (key R) and "
        "choose it as system_file."
    )
    from pack.nodes import system_file

    for number in range(11):
        (root / f"{number:02}.txt").write_text(TEXT)
    system_file.FILES.forget()
    assert "where '00.txt', '01.txt', " in said("pe.txt") and " and 3 more lie now" in said(
        "pe.txt"
    )


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/passwd", "a\\b.txt", "", "x" * 9000, "."])
def test_names_never_reach_outside(root, node, name):
    (root.parent / "outside.txt").write_text("secret")
    said = node.validate_inputs(system_file=name)
    assert said.startswith("There is no system prompt file called ") and len(said) < 700


@pytest.mark.parametrize("value", [5, ["a.txt"], {}, True], ids=repr)
def test_what_is_no_name(root, node, value):
    said = node.validate_inputs(system_file=value)
    assert said.startswith("system_file is ") and "write the name of a file" in said


def test_a_typed_prompt_beside_a_file_is_refused_by_both_names(root, node):
    (root / "pe.txt").write_text(TEXT)
    said = node.validate_inputs(system="Be brief. " * 40, system_file="pe.txt")
    assert said.startswith("system holds text ('Be brief.") and "system_file is 'pe.txt'" in said
    assert "Empty system, or set system_file to none." in said and len(said) < 300
    assert node.validate_inputs(system=" \n", system_file="pe.txt") is True
    assert node.validate_inputs(system="Be brief.", system_file="none") is True
    assert node.validate_inputs(system="Be brief.", system_file=None) is True  # over a wire


def test_a_changed_file_has_another_fingerprint(root, node):
    from pack.nodes import system_file

    assert node.fingerprint_inputs(system_file="none", prompt="a") is None
    assert node.fingerprint_inputs(prompt="of an older workflow") is None
    (root / "pe.txt").write_text(TEXT)
    before = node.fingerprint_inputs(system_file="pe.txt", prompt="a")
    assert before == node.fingerprint_inputs(system_file="pe.txt", prompt="a") is not None
    (root / "pe.txt").write_text("Shorter.")
    assert node.fingerprint_inputs(system_file="pe.txt", prompt="a") != before
    (root / "pe.txt").write_bytes(b"")  # can be read no longer: the next prompt says so
    system_file.FILES.forget()
    assert "pe.txt is empty" in node.validate_inputs(system_file="pe.txt")
