"""What people type into the page's search finds a node of the pack that does it."""

from __future__ import annotations

import pytest

# By what is typed: a node that does it.
TYPED = {
    "ip adapter": "VLMCImagePrompt",
    "ip-adapter": "VLMCImagePrompt",
    "ipadapter": "VLMCImagePrompt",
    "redux": "VLMCImagePrompt",
    "image to conditioning": "VLMCImagePrompt",
    "reference image": "VLMCPicture",
    "clip vision": "VLMCImagePrompt",
    "unclip": "VLMCImagePrompt",
    "describe": "VLMCRewrite",
    "caption": "VLMCRewrite",
    "qwen": "VLMCLoader",
    "sound to image": "VLMCEncode",
    "style transfer": "VLMCStyleDelta",
    "mix conditioning": "VLMCAlphaBlend",
    "save conditioning": "VLMCSaveConditioning",
    "xy plot": "VLMCContactSheet",
}


NEAR_THE_TOP = 5  # of what the search shows


@pytest.mark.parametrize("typed", TYPED)
def test_what_people_type_finds_a_node(comfy, typed):
    """The page looks for what is typed in display names and aliases, whatever the case."""
    info = comfy.object_info(TYPED[typed])
    names = [info["display_name"], *info["search_aliases"]]
    assert any(typed in name.lower() for name in names)


@pytest.fixture(scope="module")
def search(browser, comfy):
    """Types into the page's search until it shows a name; gives all it shows, best first."""
    from browser import ComfyPage
    from workflow_tools import BARE

    opened = ComfyPage(browser, comfy, settings=BARE)
    page = opened.page
    opened.load({"nodes": [], "links": [], "version": 0.4})
    box = page.locator("input[role=combobox]:focus")
    for patience in (2, 5, 20):  # seconds: a busy machine can miss a double click
        page.mouse.dblclick(880, 700)
        page.wait_for_timeout(1000 * patience)
        if box.count():
            break

    def typed(text: str, name: str) -> list[str]:
        shown = page.locator("[role=option]")
        box.fill("zzqqxx")  # nothing of the last one stays
        shown.first.wait_for(state="hidden")
        box.fill(text)
        for _ in range(20):
            page.wait_for_timeout(500)
            names = shown.all_inner_texts()
            if any(name in each for each in names):
                break
        return names

    yield typed
    opened.close()


def test_the_pages_own_search_shows_it_near_the_top(search, comfy):
    ranks = {}
    for text, node in TYPED.items():
        name = comfy.object_info(node)["display_name"]
        found = search(text, name)
        assert any(name in shown for shown in found), f"{text} does not find {name}"
        ranks[text] = next(at for at, shown in enumerate(found) if name in shown)
    # ComfyUI has a dozen nodes with Qwen in their names.
    assert {text for text, rank in ranks.items() if rank >= NEAR_THE_TOP} <= {"qwen"}
