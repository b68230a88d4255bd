"""Rules of the house that no linter knows: sizes, imports, what belongs together."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

try:
    import tomllib
except ImportError:  # Python 3.10, where pytest brings the same reader
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = sorted((ROOT / "vlm").rglob("*.py"))
NODES = sorted((ROOT / "nodes").glob("*.py"))
SOURCES = [*LIBRARY, *NODES]
WORKFLOWS = {file.stem for file in (ROOT / "workflows").glob("*.json")}
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What a person reads, and where the rest is.
PAGES = {
    name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("workflows", "nodes", "library")
}

MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 55
TABLES = {"define_schema"}  # sockets and widgets one below the other: data, not steps
COMFY = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server", "execution"}
PATH_OF_OURS = re.compile(
    r"(?<![\w./~-])(?:\.ci|benchmarks|docs|locales|nodes|subgraphs|tests|vlm|web|workflows)/[\w./-]*"
    r"|(?<![\w./-])(?:requirements[\w-]*\.txt|CHANGELOG\.md|LICENSE|pyproject\.toml)"
)


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def named(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """(level, module) of every import, also those inside functions."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield node.level, module
            if not node.level:  # `from comfy import model_management` imports a module as well
                yield from ((0, f"{module}.{alias.name}") for alias in node.names)


def project_files() -> list[Path]:
    """Files that git tracks or would track; everything visible where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        files = [ROOT / line for line in listed.stdout.splitlines()]
    except (OSError, subprocess.CalledProcessError):
        inside = ((f, f.relative_to(ROOT).parts) for f in ROOT.rglob("*"))
        files = [f for f, parts in inside if not any(part.startswith(".") for part in parts)]
    return [file for file in files if file.is_file()]


def schema_texts(key: str) -> list[str]:
    """What the schemas say for a keyword such as node_id, in the order of the files."""
    return [
        keyword.value.value
        for file in NODES
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "Schema"
        for keyword in node.keywords
        if keyword.arg == key
    ]


IDS = schema_texts("node_id")


# --- sizes ---------------------------------------------------------------------------------------


def test_files_are_short():
    lengths = {named(file): len(file.read_text(encoding="utf-8").splitlines()) for file in SOURCES}
    assert {file: n for file, n in lengths.items() if n > MOST_LINES} == {}
    assert len((ROOT / "__init__.py").read_text(encoding="utf-8").splitlines()) <= 20


def test_functions_are_short():
    long = {
        f"{named(file)}:{node.lineno} {node.name}": length
        for file in SOURCES
        for node in ast.walk(tree(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name not in TABLES
        and (length := lines_of(node)) > MOST_LINES_OF_A_FUNCTION
    }
    assert long == {}


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines without the docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        text = function.body[0]
        lines -= text.end_lineno - text.lineno + 1
    return lines


# --- imports -------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["comfy.model_management", "folder_paths"])
def test_one_file_talks_to(module):
    where = [named(file) for file in NODES if any(m == module for _, m in imports(file))]
    assert len(where) == 1


def test_library_knows_no_comfyui():
    strange = [
        (named(file), module)
        for file in LIBRARY
        for level, module in imports(file)
        if not level and module.split(".")[0] in COMFY
    ]
    assert strange == []


def test_imports_between_our_folders_are_relative():
    """ComfyUI loads the pack under a name that is a path, so its own name cannot be imported."""
    ours = {"vlm", "pack", "benchmarks", "tests"}
    absolute = [
        (named(file), module)
        for file in [*SOURCES, ROOT / "__init__.py"]
        for level, module in imports(file)
        if not level and (module.split(".")[0] in ours or module == "nodes")
    ]
    assert absolute == []


def test_families_know_no_toys():
    """Toy models are made for the families, which stand below them."""
    above = [
        (named(file), module)
        for file in (ROOT / "vlm" / "families").glob("*.py")
        for level, module in imports(file)
        if level and "tiny" in module.split(".")
    ]
    assert above == []


def test_library_stays_inside_its_folder():
    up = [
        (named(file), level)
        for file in LIBRARY
        for level, _ in imports(file)
        if level > len(file.relative_to(ROOT / "vlm").parts)
    ]
    assert up == []


def test_no_tensor_or_model_at_module_level():
    """What must be kept is held by the object on the wire."""
    makers = {"torch", "nn", "np", "numpy", "transformers", "load", "load_file", "from_pretrained"}
    made = [
        (named(file), name)
        for file in SOURCES
        for name in (ast.unparse(c.func) for c in calls_while_importing(tree(file).body))
        if makers & {name.split(".")[0], name.split(".")[-1]} and name != "torch.device"
    ]
    assert made == []


def calls_while_importing(body: list[ast.stmt]) -> Iterator[ast.Call]:
    """Calls in the values of a module or a class, not in its functions or decorators."""
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            yield from calls_while_importing(statement.body)
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from calls_now(statement)


def calls_now(node: ast.AST) -> Iterator[ast.Call]:
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from calls_now(child)


def test_importing_the_library_is_cheap():
    code = "import sys, vlm; print(*{'transformers', 'matplotlib'} & set(sys.modules))"
    assert run_python(code).split() == []


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- what belongs together -----------------------------------------------------------------------


def test_every_node_has_a_help_page_and_a_locale_entry():
    assert len(IDS) == len(set(IDS)) and all(name.startswith("VLMC") for name in IDS)
    pages = {page.stem for page in (ROOT / "web" / "docs").glob("*.md")}
    locale = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert pages == set(IDS)
    assert set(locale) == set(IDS)


def test_every_node_is_in_a_workflow():
    used = set()
    for file in (ROOT / "workflows").glob("*.json"):
        graph = json.loads(file.read_text(encoding="utf-8"))
        blocks = graph.get("definitions", {}).get("subgraphs", [])
        used |= {node["type"] for part in (graph, *blocks) for node in part["nodes"]}
    assert set(IDS) - used == set()


def test_requirements_mirror_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    without_torch = [each for each in project["dependencies"] if not each.startswith("torch>")]
    assert requirements("requirements.txt") == without_torch
    assert requirements("requirements-test.txt") == project["optional-dependencies"]["test"]
    assert requirements("requirements-real.txt") == project["optional-dependencies"]["real"]


def requirements(name: str) -> list[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_no_path_of_a_machine():
    wrong = re.compile(r"(?<![\w.~-])/(?:" + "|".join(("work", "root", "home")) + ")/")
    found = []
    for file in project_files():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or weights
        found += [f"{named(file)}: {hit.group()}" for hit in wrong.finditer(text)]
    assert found == []


# --- the README ----------------------------------------------------------------------------------


MOST_LINES_OF_README = 300
LINKS = re.compile(r"\]\((?!https?:)([^)#]+)\)")


def test_readme_is_a_page():
    assert len(README.splitlines()) <= MOST_LINES_OF_README


def test_readme_and_its_pages_name_files_that_exist():
    for text in (README, *PAGES.values()):
        missing = {path for path in PATH_OF_OURS.findall(text) if not (ROOT / path).exists()}
        assert missing == set()


def test_links_between_pages_lead_somewhere():
    pages = [ROOT / "README.md", ROOT / "SECURITY.md", *ROOT.glob("docs/*.md")]
    pages += ROOT.glob("gallery/*.md")
    for page in pages:
        links = LINKS.findall(page.read_text(encoding="utf-8"))
        missing = [link for link in links if not (page.parent / link).exists()]
        assert missing == [], page


def test_pages_name_every_node_and_workflow():
    for name in schema_texts("display_name"):
        assert f"| {name} |" in PAGES["nodes"]
    table = PAGES["workflows"].split("| workflow | shows |")[1].split("\n\n")[0]
    listed = set(re.findall(r"^\| ([a-z0-9.-]+) \|", table, flags=re.MULTILINE))
    starts = {name for name in WORKFLOWS if name.endswith(")")}
    assert listed == WORKFLOWS - starts
    for name, _, model in (start.rpartition(" (") for start in starts):
        line = next(line for line in README.splitlines() if line.startswith(f"| {name} ("))
        assert model[:-1] in line


def test_pages_name_workflows_that_exist():
    page = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    cells = [cell.strip() for line in page.splitlines() for cell in line.split("|")[4:5]]
    named = {
        name.strip("*")
        for cell in cells
        for name in re.findall(
            r"\*[^*]+\)\*|\b(?:z-image|krea2|flux1|qwen-image)-[a-z0-9.-]+", cell
        )
    }
    assert len(named) > 20 and named <= WORKFLOWS, named - WORKFLOWS


def test_readme_says_the_test_command_that_ci_runs():
    command = ".venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder\n"
    assert command in README
    of_ci = command.replace(".venv/bin/", "$bin/")
    assert of_ci in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.slow
def test_python_of_the_librarys_page_runs():
    blocks = re.findall(r"^```python\n(.*?)^```", PAGES["library"], flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    assert "64 wide, Z-Image reads 2560" in run_python("\n".join(blocks))


@pytest.mark.slow
def test_commands_of_the_pages_are_known():
    named = set(re.findall(r"-m vlm (\w+)", README + PAGES["library"]))
    assert {"demo", "encode", "doctor"} <= named
    for command in named:
        help_text = run_python(f"from vlm.cli import main; main(['{command}', '--help'])")
        assert command in help_text


def test_what_works_names_every_recipe():
    """Each workflow that claims to do something with a picture stands in the table, and exists."""
    page = (ROOT / "docs" / "what-works.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    named = {name.strip() for row in rows for name in row.split("|")[1].split(",")}
    there = {name for name in WORKFLOWS if not name.endswith(")")}
    recipes = {name for name in named if re.fullmatch(r"[a-z0-9]+(-[a-z0-9.]+)+", name)}
    assert recipes <= there, recipes - there
    about_the_tools = {
        "z-image-compare-settings",
        "z-image-from-clip",
        "z-image-image-influence",
        "z-image-image-prompt",
        "z-image-image-prompt-separate",
        "z-image-inspect",
        "z-image-layer-comparison",
        "z-image-layers-from-clip",
        "z-image-load-conditioning",
        "z-image-save-conditioning",
        "z-image-saved-statistics",
        "z-image-two-pictures",
    }
    assert there - recipes <= about_the_tools
