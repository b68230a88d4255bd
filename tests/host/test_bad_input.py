"""What a person can get wrong, through the HTTP API: where it is refused, and in which words."""

from __future__ import annotations

import json
import shutil
import time

import pytest
import torch
from comfy_result import PromptInterrupted
from graphs import klein, node
from pack_graphs import blended, conditioning, dump, picture, plain, seen, through_filter
from refusals import change, failed, refused

from vlm.download.pins import pins

# --- widgets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["..", "absolute", "backslash", "unknown"])
def test_a_name_that_leaves_the_model_folders_is_refused(comfy, models, place):
    outside = models.parent / "outside"
    if not outside.exists():
        shutil.copytree(models / "VLM" / "tiny", outside)
    name = {
        "..": "VLM/../../outside",
        "absolute": str(outside),
        "backslash": "VLM\\..\\..\\outside",
        "unknown": "VLM/nobody",
    }[place]
    error = refused(comfy, change(seen("elsewhere"), "vlm", model=name))
    assert any("There is no VLM called" in text for text in error.details("vlm"))


def stats_prompt(**inputs) -> dict:
    return {
        "words": conditioning(),
        "stats": node("VLMCReferenceStats", conditionings__conditioning0=["words", 0], **inputs),
        "normal": node(
            "VLMCPerDimNormalize", conditioning=["words", 0], mode="per_dim", strength=1.0,
            stats=["stats", 0],
        ),
        "out": dump("normal"),
    }  # fmt: skip


MEASURE = "measure the inputs"


@pytest.mark.parametrize("name", ["a/b", "../b", "/tmp/b", "a\\b", ".hidden"])
def test_statistics_are_saved_under_plain_names_only(comfy, models, name):
    error = refused(comfy, stats_prompt(source=MEASURE, save_as=name))
    assert any("plain name" in text for text in error.details("stats"))
    assert not (models / "vlm_stats").exists()


def test_saved_statistics_are_listed_and_do_the_same(comfy, models):
    try:
        measured = comfy.run(stats_prompt(source=MEASURE, save_as="tiny"))
        assert (models / "vlm_stats" / "tiny.safetensors").is_file()
        loaded = comfy.run(stats_prompt(source="tiny.safetensors"))
        assert loaded.text("stats").startswith("loaded tiny.safetensors")
        ours, again = (result.dump("out")[0].tensor for result in (measured, loaded))
        assert torch.equal(ours, again)
        error = refused(comfy, stats_prompt(source="../tiny.safetensors"))
        assert error.node_errors["stats"]["errors"][0]["type"] == "value_not_in_list"
    finally:
        shutil.rmtree(models / "vlm_stats", ignore_errors=True)


def test_statistics_saved_again_under_the_same_name_are_read_again(comfy, models):
    def measure(name: str) -> torch.Tensor:
        prompt = stats_prompt(source=MEASURE, save_as="again") | {"words": conditioning(name)}
        comfy.run(prompt)
        loaded = stats_prompt(source="again.safetensors")
        del loaded["stats"]["inputs"]["conditionings.conditioning0"]
        return comfy.run(loaded).dump("out")[0].tensor

    try:
        assert not torch.equal(measure("one"), measure("two"))
    finally:
        shutil.rmtree(models / "vlm_stats", ignore_errors=True)


@pytest.mark.parametrize(
    ("at", "inputs", "words"),
    [
        ("layer", {"layers": "abc"}, ["'abc'", "Write layers as"]),
        ("layer", {"layers": "2:36:0"}, ["step"]),
        ("layer", {"combine": "sum"}, ["'sum'", "concat"]),
        ("encode", {"depth": "deep"}, ["'deep'", "-2"]),
        ("filter", {"images": "one"}, ["'one'", "0, 2"]),
        ("filter", {"roles": "picture"}, ["'picture'", "vision_marker"]),
    ],
)
def test_a_widget_that_cannot_be_read_is_refused_in_words(comfy, at, inputs, words):
    error = refused(comfy, change(blended("a widget"), at, **inputs))
    text = " ".join(error.details(at))
    assert all(word in text for word in words), text


def test_what_is_wrong_with_layers_is_said_once(comfy):
    error = refused(comfy, change(blended("a widget"), "layer", layers="abc", combine="mean"))
    assert len(error.details("layer")) == 1


LINK = ["picture0", 0]


@pytest.mark.parametrize(
    "given",
    [
        {"images": {"image0": LINK}},
        {"images": [LINK]},
        {"images": [LINK, LINK]},
        {"images": "a.png"},
    ],
)
def test_pictures_in_another_shape_are_refused_when_queued(comfy, given):
    """A list of two texts or numbers alone is taken for a link by ComfyUI itself."""
    error = refused(comfy, with_(given))
    assert any('"images.image0": [node id, output]' in text for text in error.details("encode"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("images", LINK), ("image", LINK), ("image0", LINK), ("image_1", LINK), ("images.0", LINK),
     ("images.image50", LINK), ("images.image_0", LINK), ("Image", "a.png")],
)  # fmt: skip
def test_pictures_under_another_key_are_refused(comfy, key, value):
    text = failed(comfy, with_({key: value}), "encode", "TypeError")
    assert '"images.image0": [node id, output]' in text and key in text


def test_a_key_that_means_nothing_is_left_out_as_by_comfyui(comfy):
    assert comfy.run(with_({"flavour": "sweet", "images.image0": LINK})).dump("dump")


def with_(given):
    """VLM Encode with other keys in place of `images.image0`."""
    prompt = seen("a", picture())
    inputs = prompt["encode"]["inputs"]
    del inputs["images.image0"]
    inputs |= given
    return prompt


@pytest.mark.parametrize(
    ("at", "name", "value"),
    [("blend", "alpha", 1.5), ("normal", "strength", -1), ("encode", "target", "sdxl")]
    + [("layer", "final_norm", "maybe"), ("filter", "drop_first", -1), ("vlm", "dtype", "int4")],
)
def test_a_widget_out_of_range_is_refused(comfy, at, name, value):
    error = refused(comfy, change(blended("a widget"), at, **{name: value}))
    types = {one["type"] for one in error.node_errors[at]["errors"]}
    assert types & {"value_not_in_list", "value_bigger_than_max", "value_smaller_than_min"}


# --- what only shows when it runs -----------------------------------------------------------------


def test_a_layer_that_does_not_exist(comfy):
    prompt = seen("too deep")
    text = failed(comfy, change(prompt, "layer", layers="99"), "layer")
    assert "Layer 99 does not exist: this model has layers 0 to 36" in text
    assert "Set layers to some of these" in text
    text = failed(comfy, change(prompt, "encode", depth="-99"), "encode")
    assert "Layer -99 does not exist" in text and "depth" in text


def test_a_filter_that_leaves_nothing_says_what_there_was(comfy):
    prompt = seen("no picture", None) | {"filter": through_filter("layer"), "out": dump("filter")}
    text = failed(comfy, change(prompt, "filter", keep="image"), "filter")
    assert "leaves nothing" in text and "There were: template 10, text" in text


def test_normalising_without_a_reference_names_the_wire(comfy):
    prompt = blended("no reference")
    del prompt["normal"]["inputs"]["reference"]
    text = failed(comfy, prompt, "normal")
    assert "`reference` (a text CONDITIONING) or `stats`" in text and "Per-dim Normalize" in text


def test_check_target_says_which_widths_do_not_fit(comfy):
    prompt = seen("a wrong width", None, target="flux2-klein-4b") | {
        "model": node("TestTinyZImage", width=64),
        "check": node(
            "VLMCCheckTarget", conditioning=["layer", 0], model=["model", 0], on_misfit="stop"
        ),
        "out": dump("check"),
    }
    text = failed(comfy, prompt, "check")
    assert text.startswith("This conditioning is 192 wide, Z-Image reads 64.")
    warned = comfy.run(change(prompt, "check", on_misfit="warn"))
    assert warned.text("check").startswith("This conditioning is 192 wide")
    prompt["model"] = klein()["model"]
    assert comfy.run(prompt).text("check").startswith("fits FLUX.2")


def test_blending_different_widths(comfy):
    prompt = blended("two widths") | {"words": conditioning(width=32)}
    prompt["normal"] = node(
        "VLMCPerDimNormalize", conditioning=["filter", 0], mode="global", strength=1.0,
        target_std=1.0,
    )  # fmt: skip
    text = failed(comfy, prompt, "blend")
    assert "different widths, 64 and 32" in text and "Connector Apply" in text


def test_float16_overflow_names_the_layer_and_advises_bfloat16(comfy, models):
    folder = models / "VLM" / "overflow"
    try:
        write_overflowing(models / "VLM" / "tiny", folder, layer=10)
        prompt = seen("an overflow", model="VLM/overflow")
        wait_until_listed(comfy, "VLM/overflow")
        text = failed(comfy, change(prompt, "vlm", dtype="float16"), "encode")
        assert "VLM Encode: the states of layer 11 hold NaN or Inf in float16" in text
        assert "bfloat16" in text and "VLM Loader" in text
        shallow = change(change(prompt, "vlm", dtype="float16"), "encode", depth="5")
        text = failed(comfy, shallow, "layer")
        assert "VLM Encode: the states of layer 11" in text
        result = comfy.run(change(prompt, "vlm", dtype="bfloat16"))
        assert torch.isfinite(result.dump("dump")[0].tensor).all()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_overflowing(source, folder, layer: int) -> None:
    """A copy of a model whose decoder layer (origin 0) adds more than float16 can hold."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(
        x for x in weights if x.endswith(f"language_model.layers.{layer}.mlp.down_proj.weight")
    )
    weights[name] *= 2e4 / weights[name].abs().max()  # a weight that float16 can hold
    up = name.replace("down_proj", "up_proj")
    weights[up] *= 2e4 / weights[up].abs().max()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def wait_until_listed(host, name: str) -> None:
    """Waits for the loader's list, which is remembered for a moment."""
    began = time.monotonic()
    while name not in listed(host):
        assert time.monotonic() - began < 120, f"{name} is not listed: {listed(host)}"
        time.sleep(0.1)


def listed(host) -> list[str]:
    return host.object_info("VLMCLoader")["input"]["required"]["model"][1]["options"]


# --- an interrupt ---------------------------------------------------------------------------------


def test_an_interrupt_in_the_middle_of_encoding(comfy, oracle):
    # Large pictures take seconds; the first message about progress comes after one of three.
    large = [picture(0x111111 * i, 1024, 1024) for i in range(1, 4)]
    prompt_id = comfy.queue(seen("interrupted", *large))
    began = time.monotonic()
    while not comfy.progressed(prompt_id, "encode"):
        assert time.monotonic() - began < 180
        time.sleep(0.02)
    comfy.reset_module_calls()
    comfy.interrupt(prompt_id)
    with pytest.raises(PromptInterrupted) as caught:
        comfy.wait(prompt_id)
    assert caught.value.node == "encode"
    assert comfy.module_calls("DecoderLayer") < 29
    states = oracle.encode("afterwards", [plain(0x778899)], target="z-image")
    after = comfy.run(seen("afterwards", picture(0x778899))).dump("dump")[0].tensor
    assert (after - states.layer(-8)).abs().max() <= 1e-4 * states.layer(-8).abs().max()


# --- the list of models -------------------------------------------------------------------------


def test_an_empty_list_says_which_folder_to_fill_and_then_fills(start_comfy, models, tmp_path):
    empty, extra = tmp_path / "models", tmp_path / "more"
    for folder in (empty / "VLM", extra / "language"):
        folder.mkdir(parents=True)
    config = tmp_path / "extra.yaml"
    config.write_text(f"elsewhere:\n  base_path: {extra}\n  LLM: language\n", encoding="utf-8")
    host = start_comfy("--extra-model-paths-config", str(config), fresh=True, models_folder=empty)
    try:
        late = ("matplotlib", "transformers.models.qwen2_vl", "transformers.models.qwen3_vl")
        assert host.modules(*late) == []
        offered = listed(host)  # what can be fetched
        assert sorted(offered) == sorted(pins())
        (text,) = refused(host, seen("nothing there", model=offered[0])).details("vlm")
        assert "not there yet" in text and "`download`" in text and "models/VLM" in text
        (text,) = refused(host, seen("nothing there", model="VLM/mine")).details("vlm")
        assert "models/VLM" in text and "VLM Loader" in text and "config.json" in text
        fill(models / "VLM" / "tiny", empty, extra)
        host.wait_for_option("VLMCLoader", "model", "VLM/tiny")
        assert sorted(set(listed(host)) - set(offered)) == [
            "LLM/deep/er", "VLM/tiny", "language/beside",
        ]  # fmt: skip
        assert host.run(seen("there now", model="language/beside")).dump("dump")
    finally:
        host.stop()


def fill(tiny, empty, extra) -> None:
    """Puts models, links to them and other people's folders into the model folders."""
    copies = (empty / "VLM" / "tiny", empty / "LLM" / "deep" / "er", extra / "language" / "beside")
    for copy in (*copies, empty / "LLM" / "a" / "b" / "too deep"):
        shutil.copytree(tiny, copy)
    (empty / "LLM" / "the same").symlink_to(empty / "VLM" / "tiny", target_is_directory=True)
    for name, kind in (("audio", "qwen2_audio"), ("text only", "t5"), ("damaged", None)):
        folder = empty / "VLM" / name
        folder.mkdir()
        text = "{" if kind is None else json.dumps({"model_type": kind})
        (folder / "config.json").write_text(text, encoding="utf-8")
