"""The tests of this folder are complete: each file of ours that imports a library has one."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.relies()  # on nothing
ROOT = Path(__file__).parents[2]
LIBRARIES = ("transformers", "huggingface_hub", "tokenizers")


def imports(file):
    """Whether a file of ours imports one of the libraries, anywhere."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        if any(name.split(".")[0] in LIBRARIES for name in names):
            return True
    return False


def relied_upon():
    """Files that the tests of this folder name, also through a constant."""
    named = set()
    for file in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
    return {name for name in named if name.startswith(("vlm/", "nodes/")) and name.endswith(".py")}


def test_every_file_that_imports_them_has_its_contract():
    files = [file for folder in ("vlm", "nodes") for file in (ROOT / folder).rglob("*.py")]
    using = {file.relative_to(ROOT).as_posix() for file in files if imports(file)}
    assert len(using) >= 5
    assert not using - relied_upon(), "these need a test in this folder"


def test_every_file_named_here_exists():
    assert not [name for name in sorted(relied_upon()) if not (ROOT / name).is_file()]
