"""Every target has a test that compares what we give it with an oracle, or says why it has none.

A new target is a row in `PARITY`: what it is compared with, and the test that does it. A target
without a row fails here, and so does a row whose test is gone or no longer runs for the target.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

from vlm.targets import TARGETS

TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Parity:
    """How a target is checked.

    Attributes:
        oracle: What its conditioning is compared with.
        test: The test below `tests/`, FILE::FUNCTION.
        cases: The file below `tests/` that names the target as one of the test's cases; "" = the
            test's own.
    """

    oracle: str
    test: str
    cases: str = ""


@dataclass(frozen=True)
class NoOracle:
    """A target that cannot be compared with anything yet.

    Attributes:
        reason: Why, in words.
    """

    reason: str


NATIVE = "host/inside/test_native_rows.py"
DIFFUSERS = "targets/test_diffusers.py"
PIPELINES = "targets/pipelines.py"


def native(title: str) -> Parity:
    """Compared with ComfyUI's own encoder and encode node."""
    return Parity(f"ComfyUI's {title}, bit for bit", f"{NATIVE}::test_words", NATIVE)


def pipeline(name: str) -> Parity:
    """Compared with diffusers alone."""
    return Parity(f"diffusers' {name}, 1e-5 in float32", f"{DIFFUSERS}::test_words", PIPELINES)


PARITY: dict[str, Parity | NoOracle] = {
    "z-image": native("CLIPTextEncode on a CLIP of Z-Image"),
    "flux2-klein-4b": native("CLIPTextEncode on a CLIP of FLUX.2 klein 4B"),
    "flux2-klein-9b": native("CLIPTextEncode on a CLIP of FLUX.2 klein 9B"),
    "flux3-klein": pipeline("Flux3TextEncoderStep"),
    "krea2": native("CLIPTextEncode on a CLIP of Krea 2"),
    "krea2-edit": native("TextEncodeQwenImageEditPlus on a CLIP of Krea 2"),
    "qwen-image": native("TextEncodeQwenImageEdit"),
    "qwen-image-edit-plus": native("TextEncodeQwenImageEditPlus"),
    "qwen-image-2.1": pipeline("QwenImage21Pipeline"),
    "qwen-image-2.1-edit": pipeline("QwenImage21Pipeline"),
    "hunyuan-image": native("CLIPTextEncode on a CLIP of HunyuanImage 2.1"),
    "minimax-h3": native("MiniMaxH3ReferenceToVideo"),
    "mage-flow": native("TextEncodeMageFlowEdit"),
    "boogu": native("TextEncodeBooguEdit"),
    "joyimage": native("TextEncodeJoyImageEdit"),
    "ideogram4": native("CLIPTextEncode on a CLIP of Ideogram 4"),
    "flux1": Parity(
        "transformers' own class on X2I's prompts and padding, every layer",
        "vlm/test_left_padding.py::test_layers_equal_transformers",
    ),
    "qwen2vl-flux": Parity(
        "the connector's published equation on states that transformers' own class gives as well",
        "host/test_connectors.py::test_image_variation",
    ),
    "qwen2vl-flux-text": Parity(
        "what leaves txt_in of ComfyUI's running FLUX.1, by the published equations",
        "host/test_connectors.py::test_text_stream_of_the_running_model",
        "host/test_connectors.py",
    ),
    "chat": NoOracle(
        "it is no diffusion model's: tests/vlm/test_every_family.py compares every layer of every "
        "family with transformers' own class"
    ),
}
COMPARED = {name: row for name, row in PARITY.items() if isinstance(row, Parity)}


def tree(file: str) -> ast.Module:
    return ast.parse((TESTS / file).read_text(encoding="utf-8"))


def missing(row: Parity, target: str) -> str:
    """What is wrong with a row; "" = nothing."""
    file, _, name = row.test.partition("::")
    if not (TESTS / file).is_file():
        return f"there is no file tests/{file}"
    functions = [node for node in tree(file).body if isinstance(node, ast.FunctionDef)]
    found = next((one for one in functions if one.name == name), None)
    if found is None or not name.startswith("test_"):
        return f"tests/{file} has no test {name}"
    if any("skip" in ast.unparse(mark) or "xfail" in ast.unparse(mark)
           for mark in found.decorator_list):  # fmt: skip
        return f"{row.test} is skipped"
    where = tree(row.cases) if row.cases else found
    words = {node.value for node in ast.walk(where) if isinstance(node, ast.Constant)}
    return "" if target in words else f"{row.cases or row.test} does not name {target}"


def test_every_target_has_a_row():
    without = sorted(TARGETS.keys() - PARITY.keys())
    assert not without, f"No oracle and no reason for {without}: add a row to PARITY in {__file__}."
    assert not PARITY.keys() - TARGETS.keys()


@pytest.mark.parametrize("name", COMPARED)
def test_the_test_of_a_row_is_there(name):
    assert not missing(COMPARED[name], name)


def test_the_page_has_what_was_found_of_each_target():
    """Written by `python -m tools.targets_page`; a new target has to be run and written there."""
    page = (TESTS.parent / "docs" / "targets.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert {row[0].strip("| `") for row in rows} == TARGETS.keys()
    for name, row in COMPARED.items():
        found = [cells for cells in rows if cells[0].strip("| `") == name]
        if row.test.startswith((NATIVE, DIFFUSERS)):
            assert all(float(cells[5]) <= 1e-5 for cells in found), name
        if row.test.startswith(NATIVE):
            assert any(cells[2].startswith("ComfyUI") and cells[5] == "0" for cells in found), name


def test_a_row_says_what_or_why():
    for name, row in PARITY.items():
        said = row.oracle if isinstance(row, Parity) else row.reason
        assert len(said.split()) > 3, name


@pytest.mark.parametrize(
    ("test", "cases", "words"),
    [
        ("host/inside/test_gone.py::test_words", "", "there is no file"),
        ("host/inside/test_equality.py::test_gone", "", "has no test test_gone"),
        (f"{NATIVE}::test_words", "", "does not name krea2"),
        (f"{NATIVE}::test_words", "vlm/model_files.py", "does not name krea2"),
    ],
)
def test_a_row_that_leads_nowhere_is_noticed(test, cases, words):
    assert words in missing(Parity("an oracle of some kind", test, cases), "krea2")


def test_a_skipped_test_is_noticed(tmp_path, monkeypatch):
    file = tmp_path / "test_one.py"
    file.write_text('@pytest.mark.skip("later")\ndef test_one():\n    check("krea2")\n')
    monkeypatch.setitem(globals(), "TESTS", tmp_path)
    assert missing(Parity("an oracle", "test_one.py::test_one"), "krea2").endswith("is skipped")
