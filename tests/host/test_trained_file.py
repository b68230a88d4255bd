"""Connectors that `python -m vlm train` has just made, in a real ComfyUI: same bits, a picture."""

from __future__ import annotations

import pytest
import torch
from graphs import node
from pack_graphs import TINY, dump, loader, sampled

import vlm

pytest.importorskip("accelerate")
CAPTIONS = [
    f"{first} {thing} {where} the {other}"
    for first in ("a red", "an old", "one small", "the blue")
    for thing in ("house", "boat", "tree")
    for where, other in (("beside", "river"), ("above", "city"), ("behind", "road"))
]
CAPTION = "a wooden bird near the lamp"  # none of them
KINDS = {
    "features": {"connector": "linear", "layers": "28"},
    "attention": {"connector": "norm-linear", "layers": "28", "attention": 1.0, "features": 0.0},
    "flow": {"connector": "mlp", "layers": "28", "hidden": 64, "flow": 1.0, "features": 0.0},
    "lap": {"connector": "lap", "layers": "8,18,28", "heads": 4},
}


@pytest.fixture(scope="module")
def host(comfy):
    return comfy


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Captions with pictures, and a toy Z-Image that attention and flow run through."""
    diffusers = pytest.importorskip("diffusers")
    assert diffusers
    import sys

    from comfy_find import REPO

    sys.path.insert(0, str(REPO / "tests" / "train"))
    from dit_toys import write_pictures, write_z_image

    folder = tmp_path_factory.mktemp("trained")
    write_z_image(folder / "dit", 64)
    write_pictures(folder, CAPTIONS, side=32)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def trained(request, host, models, place):
    """The connector's name, and what training itself makes of a caption of its own."""
    from vlm.train import run as runs
    from vlm.train.reader import Reader
    from vlm.train.recipe import TrainRecipe

    name = f"trained/{request.param}"
    recipe = TrainRecipe(
        captions=str(place / "captions.jsonl"), held_out=4, vlm=str(models / TINY),
        vlm_dtype="float32", teacher="tiny", dit=str(place / "dit"), size=32, device="cpu",
        steps=2, batch=2, warmup=1, calibrate=8, every=2,
        out=str(models / "vlm_connectors" / name), **KINDS[request.param],
    )  # fmt: skip
    kept = []
    write = runs.write_connector
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            runs,
            "write_connector",
            lambda student, *rest: [kept.append(student), write(student, *rest)],
        )
        runs.train(recipe)
    with torch.no_grad():
        ((context, _),) = kept[0](
            [Reader(vlm.load(models / TINY, dtype="float32"), recipe)(CAPTION)]
        )
    file = f"{name}/{runs.RESULT}"
    host.wait_for_option("VLMCConnectorLoader", "connector", file)
    return file, context


def through(file: str, kind: str, **inputs) -> dict:
    """VLM Loader → VLM Encode → a node with the connector → Check Target → Z-Image."""
    prompt = {
        "vlm": loader(TINY),
        "encode": node("VLMCEncode", model=["vlm", 0], prompt=CAPTION, target="z-image"),
        "weights": node("VLMCConnectorLoader", connector=file),
        "apply": node(kind, connector=["weights", 0], **inputs),
        "check": node(
            "VLMCCheckTarget", conditioning=["apply", 0], model=["model", 0], on_misfit="stop"
        ),
        "dump": dump("check"),
    }
    return sampled(prompt, "check")


def test_connector_apply_gives_what_training_gave_and_a_picture(host, trained):
    file, context = trained
    result = host.run(through(file, "VLMCConnectorApply", tokens=["encode", 0]))
    (entry,) = result.dump("dump")
    assert entry.tensor[0].shape == context.shape
    # The same file and model; ComfyUI has another torch, whose kernels round in their own way.
    assert (entry.tensor[0] - context).abs().max() <= 1e-4 * context.abs().max()
    assert result.text("check").startswith("fits Z-Image")
    assert result.images("save")[0].startswith(b"\x89PNG")
    if "lap" in file:
        through_pool = through(
            file, "VLMCLAPPool", hidden_states=["encode", 0], layers="auto", strengths=""
        )
        (pooled,) = host.run(through_pool).dump("dump")
        assert torch.equal(pooled.tensor, entry.tensor)
