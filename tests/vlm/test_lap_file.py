"""LAP weights in files: saved, found inside a checkpoint, and refused where they are not whole."""

import math
import re
from functools import partial

import pytest
import torch
from lap_equations import (
    CLOSE,
    EVERY_THIRD,
    LAYERS,
    LAYOUTS,
    METADATA,
    WIDTH,
    direct,
    lap_weights,
    loaded_lap,
    noise,
    put_lap,
    run,
)

import vlm
from vlm.connectors.lap_blocks import LAP, TXTFUSION, UNIFUSION, Origin, Sizes
from vlm.connectors.lap_file import lap_metadata


@pytest.fixture
def put(tmp_path):
    """`put(weights, metadata)`: a file of them."""
    return partial(put_lap, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_saved_and_loaded(tmp_path, layout, err):
    sizes = loaded_lap(tmp_path, layout).sizes
    lap = LAP(sizes, Origin(vlm="Qwen3-VL-4B", layers=EVERY_THIRD, target="z-image"))
    lap.load_state_dict(lap_weights(layout))
    path = tmp_path / "mine.safetensors"
    vlm.save_lap(lap, path)
    again = vlm.load_connector(path).module
    assert again.sizes == sizes
    assert again.origin == Origin(path.name, "Qwen3-VL-4B", EVERY_THIRD, "z-image")
    for name, weight in lap_weights(layout).items():
        assert torch.equal(again.state_dict()[name], weight)
    stack = noise(1, LAYERS, 5, WIDTH)
    assert err(run(again, stack), run(lap, stack)) < CLOSE
    assert lap_metadata(path)["version"] == "1"


def test_saving_needs_the_layers(tmp_path):
    lap = LAP(Sizes(UNIFUSION, 8, 3, 2, 2, 8), Origin(layers=(1, 2)))
    with pytest.raises(ValueError, match="pools 3 layers, its origin names 2"):
        vlm.save_lap(lap, tmp_path / "a.safetensors")


def test_inside_a_checkpoint(tmp_path, put, err):
    """Nothing else of a Krea 2 checkpoint is read, and convert writes that part alone."""
    from vlm.cli import main

    weights = lap_weights(TXTFUSION)
    start = "model.diffusion_model."
    whole = {f"{start}txtfusion.{name}": value for name, value in weights.items()}
    whole |= {f"{start}first.weight": torch.full((4, 4), math.nan)}
    path = put(whole, None, "krea2.safetensors")
    connector = vlm.load_connector(path)
    assert connector.title == "LAP (txtfusion, 12 layers)"
    stack = noise(1, LAYERS, 5, WIDTH)
    assert err(run(connector.module, stack), direct(weights, stack)) < CLOSE
    part = tmp_path / "part.safetensors"
    main(["convert", str(path), str(part)])
    assert err(run(vlm.load_connector(part).module, stack), run(connector.module, stack)) < CLOSE
    assert part.stat().st_size < path.stat().st_size


def test_convert_keeps_the_metadata(tmp_path, put):
    from vlm.cli import main

    path, again = put(lap_weights(UNIFUSION)), tmp_path / "again.safetensors"
    main(["convert", str(path), str(again)])
    assert lap_metadata(again) == METADATA


@pytest.mark.slow
def test_krea2s_own_are_known_by_their_sizes(put, tiny):
    """Width, layers and heads are the released ones; the feed-forward is small."""
    weights = lap_weights(TXTFUSION, width=2560, heads=20)
    lap = vlm.load_connector(put(weights, None)).module
    assert (lap.origin.vlm, lap.origin.target) == ("Qwen3-VL-4B", "Krea 2")
    with pytest.raises(ValueError, match="It was made for Qwen3-VL-4B: load that model"):
        vlm.lap_pool(tiny().encode("a red house"), lap)


def without(weights, *keys):
    return {name: value for name, value in weights.items() if name not in keys}


WRONG = {
    "a missing pool": (
        lambda w: (without(w, "projector.weight"), METADATA),
        "projector.weight is missing",
    ),
    "a missing weight": (
        lambda w: (without(w, "refiner_blocks.1.mlp.w2.weight"), METADATA),
        "lack refiner_blocks.1.mlp.w2.weight",
    ),
    "another weight": (
        lambda w: (w | {"layerwise_blocks.2.prenorm.weight": torch.ones(64)}, METADATA),
        "also holds layerwise_blocks.2.prenorm.weight",
    ),
    "another size": (
        lambda w: (w | {"refiner_blocks.0.prenorm.weight": torch.ones(32)}, METADATA),
        "refiner_blocks.0.prenorm.weight is [32], expected [64]",
    ),
    "no metadata": (lambda w: (w, None), "do not say how many heads"),
    "another version": (lambda w: (w, METADATA | {"version": "2"}), "of version '2', this pack"),
    "heads that do not divide": (
        lambda w: (w, METADATA | {"heads": "5"}),
        "5 heads do not divide 64 dimensions",
    ),
    "no heads": (lambda w: (w, METADATA | {"heads": "0"}), "0 heads do not divide"),
    "fewer layers": (lambda w: (w, METADATA | {"layers": "2,5"}), "pools 12 layers, its metadata"),
    "words for layers": (lambda w: (w, METADATA | {"layers": "all"}), "its metadata name 'all'"),
    "quantised": (
        lambda w: (w | {"refiner_blocks.0.attn.wq.weight_scale": torch.ones(1)}, METADATA),
        "holds quantised weights",
    ),
    "NaN": (
        lambda w: (w | {"projector.weight": torch.full((1, LAYERS), math.nan)}, METADATA),
        "projector.weight holds NaN",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_files_that_are_not_whole(put, what):
    change, message = WRONG[what]
    with pytest.raises(ValueError, match=re.escape(message)):
        vlm.load_connector(put(*change(lap_weights(UNIFUSION))))


def test_heads_that_do_not_divide_those_of_keys(put):
    weights = lap_weights(TXTFUSION, key_heads=3)
    with pytest.raises(ValueError, match="has 4 heads and 3 for keys"):
        vlm.load_connector(put(weights, None))
