"""Pictures of what a person opens first, to be looked at: SCREENSHOTS=FOLDER asks for them.

Each start template, as ComfyUI shows it on a screen of 1366 x 768 with two pixels to each: in both
renderers, dark and light, in English and Chinese.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import ComfyPage
from comfy_host import ComfyHost
from layouts import show
from PIL import Image
from test_start_templates import write_names
from workflow_tools import STARTS, WORKFLOWS, example_picture, read

FOLDER = os.environ.get("SCREENSHOTS", "")
LANGUAGES = ("en", "zh")
SCREEN = (1366, 768)
KEPT = {"Comfy.Minimap.Visible": False}  # all else as a person has it
pytestmark = [
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not FOLDER, reason="SCREENSHOTS=FOLDER names where the pictures go"),
]


@pytest.fixture(scope="module")
def host(start_comfy, checkout, tmp_path_factory) -> Iterator[ComfyHost]:
    """A fresh ComfyUI that has every file the templates name."""
    models = tmp_path_factory.mktemp("screens") / "models"
    write_names(models)
    host = start_comfy(fresh=True, models_folder=models)
    example_picture(host, checkout)
    yield host
    host.stop()


@pytest.fixture(scope="module", params=LANGUAGES)
def page(request, browser, host) -> Iterator[ComfyPage]:
    settings = KEPT | {"Comfy.Locale": request.param}
    opened = ComfyPage(browser, host, size=SCREEN, settings=settings, density=2)
    opened.language = request.param
    yield opened
    opened.close()


@pytest.mark.parametrize("name", STARTS)
def test_start_template(page, name):
    for vue in (False, True):
        for palette in ("dark", "light"):
            show(page, vue, palette)
            page.load(read(WORKFLOWS / f"{name}.json"))
            page.page.wait_for_timeout(1500)
            renderer = "vue" if vue else "classic"
            file = Path(FOLDER) / f"{page.language} {renderer} {palette}" / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(file, fit=False)
            with Image.open(file) as made:
                assert made.size == (2 * SCREEN[0], 2 * SCREEN[1])
    assert page.missing_types() == [] and page.errors() == []
