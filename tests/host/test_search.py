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
    "style transfer": "VLMCStyleDelta",
    "mix conditioning": "VLMCAlphaBlend",
    "save conditioning": "VLMCSaveConditioning",
    "xy plot": "VLMCContactSheet",
}


@pytest.mark.parametrize("typed", TYPED)
def test_what_people_type_finds_a_node(comfy, typed):
    """The page looks for what is typed in display names and aliases, whatever the case."""
    info = comfy.object_info(TYPED[typed])
    names = [info["display_name"], *info["search_aliases"]]
    assert any(typed in name.lower() for name in names)
