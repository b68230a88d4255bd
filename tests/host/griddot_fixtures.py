"""Fixtures of the GridDot panel's tests, for modules that name this file in `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import ComfyPage
from griddot_page import RENDERERS, WIDE, PanelPage, settings
from PIL import Image
from workflow_tools import example_picture


@pytest.fixture(scope="module", params=RENDERERS)
def opened(request, browser, comfy, checkout) -> Iterator[ComfyPage]:
    """A page in each of the renderers, with the pictures that the tests load."""
    example_picture(comfy, checkout, 128)
    Image.new("RGB", (192, 64), "#446688").save(comfy.base / "input" / WIDE)
    page = ComfyPage(browser, comfy, settings=settings(request.param), size=(1500, 1000))
    yield page
    page.close()
    comfy.post("/api/settings", settings("classic"))


@pytest.fixture
def panel(opened) -> Iterator[PanelPage]:
    """The panel in it; the page may log no error meanwhile."""
    opened.messages.clear()
    yield PanelPage(opened)
    assert opened.errors() == []
