"""Fixtures of the host tests: a real ComfyUI, tiny models, servers per cache mode."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

# Helpers lie beside the tests and are imported by their names.
sys.path.insert(0, str(Path(__file__).parent))

from browser import BrowserMissing, ComfyPage, chromium  # noqa: E402
from comfy_find import HOW_TO, Checkout, find_comfyui  # noqa: E402
from comfy_host import PACK_FOLDER, ComfyHost, ServerFailed, pack_source  # noqa: E402
from installs import InstallFailed, chosen_frontend, own_matplotlib, own_pytest  # noqa: E402
from tiny_checkpoints import write_models, write_qwen3vl  # noqa: E402
from tiny_connectors import write_connectors  # noqa: E402
from tiny_writer import let_it_write  # noqa: E402

TINY_NATIVE = Path(__file__).parent / "tiny_native"

# As the servers, see comfy_process.py: what a test computes itself are the same tiny models.
torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))


def pytest_configure(config: pytest.Config) -> None:
    """`-m browser` chooses what drives the page, to run it with another frontend."""
    config.addinivalue_line("markers", "browser: opens ComfyUI's page in Chromium")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what drives the page by the fixture that it needs for it, and all of them as slow."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
        if Path(__file__).parent in item.path.parents:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def checkout() -> Checkout:
    """The ComfyUI to test with; without one every host test is skipped."""
    try:
        found = find_comfyui()
    except FileNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
    if found is None:
        pytest.skip(HOW_TO)
    return found


@pytest.fixture(scope="session")
def models(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the tiny checkpoints, shared by all servers of the session."""
    from vlm.tiny.folder import write_tiny

    folder = write_models(checkout, tmp_path_factory.mktemp("comfy") / "models")
    # Written before any server starts: the loader's list is remembered for a moment.
    write_tiny(folder / "VLM" / "tiny", "qwen3_vl", 64, 36)
    return folder


@pytest.fixture(scope="session")
def oracle(models: Path) -> Any:
    """The library itself, in this process, with the weights of the loader's `VLM/tiny`."""
    import vlm

    return vlm.load(models / "VLM" / "tiny", dtype="float32")


@pytest.fixture(scope="session")
def qwen3vl(checkout: Checkout, models: Path) -> Path:
    """A Qwen3-VL folder of width 64 with the text weights of TestTinyClip(width=64).

    It lies in models/LLM/Qwen-VL/, one of the places where VLM folders are looked for.
    """
    return write_qwen3vl(checkout, models / "LLM" / "Qwen-VL" / "tiny-qwen3-vl-64")


@pytest.fixture(scope="session")
def public_vlm(models: Path) -> Path:
    """The VLM folder that the shipped workflows name: tiny, as wide as Z-Image reads it.

    With 28 decoder layers it has the deepest layer that klein asks for, and what a picture in
    front of Z-Image asks for (-8).
    """
    from vlm.tiny.folder import write_tiny

    folder = models / "VLM" / "Qwen3-VL-4B-Instruct"
    return let_it_write(write_tiny(folder, "qwen3_vl", width=2560, layers=28))


@pytest.fixture(scope="session")
def flux_connectors(models: Path) -> Path:
    """The models folder with tiny connectors, and the VLMs that they belong to."""
    write_connectors(models)
    return models


@pytest.fixture(scope="session")
def its_pytest(checkout: Checkout) -> Path:
    """A folder with a pytest for ComfyUI's Python, to be put on its PYTHONPATH."""
    try:
        return own_pytest(checkout.python)
    except InstallFailed as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def frontend() -> Path | None:
    """The folder of the page's files that COMFYUI_FRONTEND asks for; None for ComfyUI's own."""
    try:
        return chosen_frontend()
    except InstallFailed as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def its_packages(checkout: Checkout) -> dict[str, str]:
    """Environment variables with which ComfyUI has all that the pack requires."""
    try:
        folder = own_matplotlib(checkout.python)
    except InstallFailed as error:
        pytest.fail(str(error), pytrace=False)
    return {} if folder is None else {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="session")
def start_comfy(
    checkout: Checkout,
    models: Path,
    its_packages: dict[str, str],
    frontend: Path | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., ComfyHost]]:
    """`start_comfy("--cache-lru", "2")`: a running server with these arguments.

    Servers are kept for the session, one per set of arguments; `fresh=True` starts another one
    that the caller stops, with other packs, another models folder or more environment variables
    where they are given.
    """
    running: dict[tuple[str, ...], ComfyHost] = {}
    everyone: list[ComfyHost] = []

    def start(
        *args: str,
        fresh: bool = False,
        packs: dict[str, Path] | None = None,
        models_folder: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> ComfyHost:
        if not fresh and args in running:
            return running[args]
        host = ComfyHost(
            checkout,
            tmp_path_factory.mktemp("server"),
            args,
            models=models_folder or models,
            frontend=frontend,
            env=its_packages | (env or {}),
            packs=default_packs() if packs is None else packs,
        )
        everyone.append(host)
        try:
            host.start()
        except ServerFailed as error:
            pytest.fail(str(error), pytrace=False)
        if not fresh:
            running[args] = host
        return host

    yield start
    for host in everyone:
        host.stop()


@pytest.fixture(scope="session")
def comfy(start_comfy: Callable[..., ComfyHost]) -> ComfyHost:
    """The server with ComfyUI's default settings."""
    return start_comfy()


@pytest.fixture(scope="module")
def browser(checkout: Checkout) -> Iterator[Any]:
    """A headless Chromium; fails where it is missing, since then the page is untested.

    Closed with each module: while it is open, asyncio.run does not work in this process.
    """
    try:
        with chromium() as found:
            yield found
    except BrowserMissing as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., ComfyPage]]:
    """`open_page(host, size=..., settings=...)`: a ComfyPage, closed after the test."""
    pages: list[ComfyPage] = []

    def start(host: ComfyHost, **options: Any) -> ComfyPage:
        pages.append(ComfyPage(browser, host, **options))
        return pages[-1]

    yield start
    for page in pages:
        page.close()


def default_packs() -> dict[str, Path]:
    """This repository, once it is a pack, and the test-only pack."""
    source = pack_source()
    packs = {"tiny_native": TINY_NATIVE}
    return packs if source is None else packs | {PACK_FOLDER: source}
