"""Workflows of the first version, 0.1.0, as people saved them: they open as what they were."""

from pathlib import Path

import pytest
from comfy_find import REPO
from workflow_tools import BARE, example_picture, read, small

FILES = REPO / "tests" / "host" / "first_version"
NAMES = sorted(path.stem for path in FILES.glob("*.json"))
QUEUED = (
    "flux1-image-variation",
    "flux2-klein-picture",
    "krea2-picture-prompt",
    "qwen-image-from-clip",
    "z-image-picture-style",
)
# What a page writes into a prompt for itself, each of another version.
PAGES_OWN = {"video-preview"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def host(public_vlm, flux_connectors, comfy, checkout):
    example_picture(comfy, checkout, 128)
    return comfy


@pytest.fixture(scope="module")
def page(browser, host):
    from browser import ComfyPage

    opened = ComfyPage(browser, host, settings=BARE)
    yield opened
    opened.close()


def saved(name: str, what: str) -> dict:
    return read(FILES / f"{name}.json")[what]


def differences(before: dict, now: dict) -> list[str]:
    """Inputs that a saved graph had and that have another value now; new ones are no difference."""
    assert set(before) == set(now)
    found = []
    for key, node in before.items():
        assert node["class_type"] == now[key]["class_type"]
        for name, value in node["inputs"].items():
            other = now[key]["inputs"].get(name, "missing")
            if name not in PAGES_OWN and value != other:
                found.append(f"{node['class_type']}.{name}: {value!r} became {other!r}")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_opens_as_what_it_was(host, page, name):
    page.messages.clear()
    page.load(saved(name, "page"))
    assert page.missing_types() == []
    assert differences(saved(name, "api"), page.api_prompt()) == []
    assert page.errors() == []


@pytest.mark.parametrize("name", QUEUED)
def test_runs_as_it_was_queued(host, name):
    result = host.run(small(saved(name, "api")))
    assert result.images() and all(x.startswith(b"\x89PNG") for x in result.images())


def test_all_of_them_are_here():
    assert len(NAMES) == 26 and Path(FILES).is_dir()
