"""What ComfyUI's own page offers of the files that a template names and that are not there."""

from __future__ import annotations

import pytest
from workflow_tools import WORKFLOWS, nodes_in, read

PATIENT = 60_000  # ms
# The page opens a link to save a file: its address, and the name it is to have.
RECORD = """() => {
    window.offered = []
    HTMLAnchorElement.prototype.click = function () { offered.push([this.href, this.download]) }
}"""
HUB = "https://huggingface.co"
CONNECTOR = f"{HUB}/Djrango/Qwen2vl-Flux/resolve/main/qwen2-vl/connector.pt"
EMBEDDER = f"{HUB}/Djrango/Qwen2vl-Flux/resolve/main/qwen2-vl/t5_embedder.pt"
ALIGNNET = f"{HUB}/OPPOer/X2I/resolve/main/qwen2.5-vl-7b_proj.pt"


@pytest.fixture(scope="module")
def host(start_comfy, tmp_path_factory):
    """A ComfyUI that has no model at all."""
    models = tmp_path_factory.mktemp("no") / "models"
    models.mkdir()
    host = start_comfy(fresh=True, models_folder=models)
    yield host
    host.stop()


@pytest.mark.parametrize(
    "name, connectors",
    [
        ("Variations of a picture (FLUX.1)", [CONNECTOR]),
        ("flux1-text-and-picture", [CONNECTOR, EMBEDDER]),
        ("flux1-x2i-picture", [ALIGNNET]),
    ],
)
def test_the_page_offers_connectors_as_it_offers_checkpoints(host, open_page, name, connectors):
    opened = open_page(host)
    opened.evaluate(RECORD)
    workflow = read(WORKFLOWS / f"{name}.json")
    opened.load(workflow)
    opened.page.get_by_text("View details").click(timeout=PATIENT)
    opened.page.get_by_role("button", name="Download all").click(timeout=PATIENT)
    offered = dict(opened.evaluate("() => offered"))
    named = {
        model["url"]: model["name"]
        for each in nodes_in(workflow)
        for model in each["properties"].get("models", [])
    }
    assert offered == named
    assert set(connectors) < set(offered)
