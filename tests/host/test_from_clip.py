"""VLM From CLIP in a real ComfyUI: the CLIP's own numbers, pictures, patches, caches, refusals."""

from __future__ import annotations

import time

import pytest
import torch
from clip_graphs import NATIVE, clip, from_clip, native_encode
from graphs import node, z_image
from pack_graphs import dump, picture, sampled
from refusals import change, failed, refused
from test_cache_modes import MODES, forgets
from test_encode import load_image, noise

SIGHTED = ("krea2", "qwen-image")
# Text encoders that only newer ComfyUIs have, and the file by which one knows them.
WAITING = {"qwen-image-2.1": "comfy/text_encoders/qwen_image21.py"}
TEXT = "a red house by the sea"
LORA = "tiny_text_encoder.safetensors"


def tensor(result, name: str = "dump") -> torch.Tensor:
    return result.dump(name)[0].tensor


@pytest.fixture(scope="module")
def classic(start_comfy):
    host = start_comfy("--cache-classic")
    host.free()
    return host


# --- the CLIP's own numbers -----------------------------------------------------------------------


@pytest.mark.parametrize("native", NATIVE)
def test_text_is_the_clips_own_bit_for_bit(comfy, checkout, native):
    if native in WAITING and not (checkout.path / WAITING[native]).is_file():
        pytest.skip(f"{native} waits for a ComfyUI that has it; {checkout.version} does not")
    prompt = from_clip(native, TEXT, None) | native_encode(TEXT)
    result = comfy.run(prompt)
    assert torch.equal(tensor(result), tensor(result, "native_dump"))
    assert "as Load CLIP holds it" in result.text("vlm")
    vision = "text and pictures" if native in (*SIGHTED, *WAITING) else "text only"
    assert vision in result.text("vlm")


@pytest.mark.parametrize("native", SIGHTED)
def test_a_picture_counts_and_its_tokens_are_mapped(comfy, native):
    blind = tensor(comfy.run(from_clip(native, TEXT, None)))
    red, blue = (
        comfy.run(from_clip(native, TEXT, picture(color))).dump("dump")[0]
        for color in (0xCC2211, 0x1122CC)
    )
    assert red.tensor.shape == blue.tensor.shape and not torch.equal(red.tensor, blue.tensor)
    roles = red.options["vlm_tokens"]["role"]
    seen = roles.count("image")
    (grid,) = red.options["vlm_tokens"]["grids"]
    assert seen == grid["rows"] * grid["cols"] > 0
    assert len(roles) == red.tensor.shape[1] > blind.shape[1] + seen  # and its markers


def test_comfyuis_preprocessing_gives_the_native_nodes_conditioning(comfy):
    """The native edit node scales to a megapixel; a picture of that size stays as it is.

    37 x 37 tokens are a little more than a megapixel, which is the target's own budget.
    """
    shown = load_image(comfy, "native.png", noise(1024, 1024))
    budget = 37 * 28 * 37 * 28
    prompt = from_clip("qwen-image", TEXT, shown, preprocessing="comfyui", max_pixels=budget)
    prompt["native"] = node(
        "TextEncodeQwenImageEdit", clip=["clip", 0], prompt=TEXT, image=["picture0", 0]
    )
    prompt["native_dump"] = dump("native")
    result = comfy.run(prompt)
    assert torch.equal(tensor(result), tensor(result, "native_dump"))
    other = tensor(comfy.run(change(prompt, "vlm", preprocessing="huggingface")))
    assert other.shape == tensor(result).shape and not torch.equal(other, tensor(result))


@pytest.mark.parametrize("native", SIGHTED)
def test_the_clip_stays_as_it_was(classic, native):
    """Its own encoding before and after ours, in one process: the same object, the same bits."""
    alone = {"clip": clip(native)} | native_encode(TEXT)
    before = classic.run(alone)
    ours = from_clip(native, "something else", picture(0x334455))
    classic.run(ours)
    classic.run(change(ours, "encode", depth="-1"))
    after = classic.run(alone)
    assert "clip" in after.cached and "native" in after.executed
    assert torch.equal(tensor(after, "native_dump"), tensor(before, "native_dump"))


def test_no_second_copy_of_the_weights(classic):
    classic.free()
    prompt = from_clip("krea2", TEXT, picture(0x556677)) | native_encode(TEXT)
    prompt["again"] = node("VLMCFromCLIP", clip=["clip", 0], preprocessing="comfyui")
    prompt["encode2"] = change(prompt, "encode", model=["again", 0])["encode"]
    prompt["layer2"] = change(prompt, "layer", hidden_states=["encode2", 0])["layer"]
    prompt["dump2"] = dump("layer2")
    classic.run(prompt)
    assert classic.loaded_models() == ["Krea2TEModel_"]
    assert classic.live("Llama2_", "NativeBackbone") == {"Llama2_": 1, "NativeBackbone": 2}


def test_it_ends_in_a_picture(comfy):
    prompt = sampled(from_clip("krea2", TEXT, picture(0x778899), target="z-image"), "layer")
    result = comfy.run(prompt)
    assert result.images("save")[0].startswith(b"\x89PNG")
    other = sampled(from_clip("krea2", TEXT, picture(0x998877), target="z-image"), "layer")
    assert comfy.run(other).images("save") != result.images("save")


# --- what stands on the CLIP ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def lora(comfy, models):
    """A LoRA file for the language model of TestTinyClip, on four of its layers."""
    from safetensors.torch import save_file

    noise = torch.Generator().manual_seed(1)
    tensors = {}
    for layer in (0, 5, 10, 20):
        base = f"text_encoders.qwen3_4b.transformer.model.layers.{layer}.mlp.down_proj"
        for side in ("lora_up", "lora_down"):
            shape = (64, 4) if side == "lora_up" else (4, 64)
            tensors[f"{base}.{side}.weight"] = torch.randn(shape, generator=noise) * 0.2
    file = models / "loras" / LORA
    file.parent.mkdir(exist_ok=True)
    save_file(tensors, file)
    began = time.monotonic()
    while LORA not in comfy.object_info("LoraLoader")["input"]["required"]["lora_name"][0]:
        assert time.monotonic() - began < 30, "ComfyUI does not list the LoRA"
        time.sleep(0.2)
    yield LORA
    file.unlink()


def on_a_lora(prompt):
    """The prompt with a LoRA between the CLIP and VLM From CLIP."""
    patched = node(
        "LoraLoader", model=["unet", 0], clip=["clip", 0], lora_name=LORA, strength_model=0.0,
        strength_clip=1.0,
    )  # fmt: skip
    between = {"unet": node("TestTinyZImage", width=64), "patched": patched}
    return change(prompt, "vlm", clip=["patched", 1]) | between


def test_a_lora_on_the_clip_counts_and_only_there(comfy, lora):
    plain = from_clip("z-image", TEXT, None)
    with_lora = on_a_lora(from_clip("z-image", TEXT, None))
    with_lora["native"] = node("CLIPTextEncode", clip=["patched", 1], text=TEXT)
    with_lora["native_dump"] = dump("native")
    first = tensor(comfy.run(plain))
    patched = comfy.run(with_lora)
    assert torch.equal(tensor(patched), tensor(patched, "native_dump"))
    assert not torch.equal(tensor(patched), first)
    # The two CLIPs share their weights: each run has to put its own patches on them.
    both = from_clip("z-image", "another text", None) | native_encode("another text")
    result = comfy.run(both)
    assert torch.equal(tensor(result), tensor(result, "native_dump"))
    again = on_a_lora(from_clip("z-image", "another text", None))
    assert not torch.equal(tensor(comfy.run(again)), tensor(result))


def test_a_schedule_of_hooks_gives_an_entry_per_keyframe(comfy, lora):
    prompt = from_clip("z-image", TEXT, None) | {
        "hook": node("CreateHookLora", lora_name=LORA, strength_model=0.0, strength_clip=1.0),
        "off": node("CreateHookKeyframe", strength_mult=0.0, start_percent=0.0),
        "on": node("CreateHookKeyframe", strength_mult=1.0, start_percent=0.5,
                   prev_hook_kf=["off", 0]),
        "schedule": node("SetHookKeyframes", hooks=["hook", 0], hook_kf=["on", 0]),
        "hooked": node("SetClipHooks", clip=["clip", 0], apply_to_conds=True, schedule_clip=True,
                       hooks=["schedule", 0]),
        "filter": node("VLMCTokenFilter", tokens=["layer", 0], keep="all"),
        "filtered": dump("filter"),
    }  # fmt: skip
    prompt |= native_encode(TEXT, source="hooked")
    prompt = change(prompt, "vlm", clip=["hooked", 0])
    result = comfy.run(sampled(prompt, "filter"))
    native, ours = result.dump("native_dump"), result.dump("dump")
    assert len(ours) == len(native) == 2
    span = ("clip_start_percent", "clip_end_percent")
    for one, other in zip(ours, native, strict=True):
        assert torch.equal(one.tensor, other.tensor)
        assert [one.options[key] for key in span] == [other.options[key] for key in span]
        assert "hooks" in one.keys
    assert not torch.equal(ours[0].tensor, ours[1].tensor)
    assert len(result.dump("filtered")) == 2
    assert result.images("save")


def test_clip_set_last_layer_counts(comfy):
    prompt = from_clip("z-image", TEXT, None)
    prompt["last"] = node("CLIPSetLastLayer", clip=["clip", 0], stop_at_clip_layer=-5)
    prompt = change(prompt, "vlm", clip=["last", 0]) | native_encode(TEXT, source="last")
    result = comfy.run(prompt)
    assert torch.equal(tensor(result), tensor(result, "native_dump"))
    assert "layer 32 of 36" in result.text("layer")


# --- what runs again, in every cache mode ---------------------------------------------------------

DEPTH = 29  # decoder layers to -8, Z-Image's layer with pictures, of the tiny model's 36
TOWER = 3  # blocks of its vision tower


@pytest.fixture(scope="module", params=MODES, ids=lambda args: " ".join(args) or "default")
def host(request, start_comfy):
    """One server per cache mode; those that no other file uses end with these tests."""
    kept = request.param in MODES[:2]
    server = start_comfy(*request.param, fresh=not kept)
    yield server
    if not kept:
        server.stop()


def cost(host, prompt):
    """A prompt's result, and how many decoder layers and vision blocks ran for it."""
    host.reset_module_calls()
    result = host.run(prompt)
    return result, (host.module_calls("TransformerBlock"), host.module_calls("VisionBlock"))


def test_a_changed_text_runs_only_what_it_must(host):
    host.free()
    color = 0xABCDEF

    def prompt(text: str):
        return from_clip("krea2", text, picture(color), target="z-image")

    first, ran = cost(host, prompt("a first text"))
    assert ran == (DEPTH, TOWER)
    changed, ran = cost(host, prompt("another text"))
    # Each layer once, for the new words only; the picture is known where the model is.
    assert ran == (DEPTH, TOWER if forgets(host) else 0)
    assert ("reused" in changed.text("encode")) == (not forgets(host))
    assert ("clip" in changed.executed) == ("vlm" in changed.executed) == forgets(host)
    known = from_clip("krea2", "another text", picture(color), target="z-image")
    known["vlm"]["inputs"]["prefix_cache_mb"] = 0
    fresh, ran = cost(host, known)
    assert ran == (DEPTH, TOWER)
    largest = tensor(fresh).abs().max()
    assert (tensor(changed) - tensor(fresh)).abs().max() <= 1e-4 * largest
    assert not torch.equal(tensor(first), tensor(changed))


def test_an_edit_behind_the_encoder_runs_no_layer(host):
    prompt = from_clip("krea2", "edited behind", picture(0xFEDCBA), target="z-image")
    first, ran = cost(host, prompt)
    assert ran == (DEPTH, TOWER)
    edited, ran = cost(host, change(prompt, "layer", layers="12"))
    assert ran == ((DEPTH, TOWER) if forgets(host) else (0, 0))
    assert not torch.equal(tensor(edited), tensor(first))


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("native", ["z-image", "flux2-klein", "flux2-klein-9b"])
def test_a_text_only_clip_says_which_ones_see(comfy, native):
    text = failed(comfy, from_clip(native, TEXT, picture()), "encode")
    assert text.startswith("This CLIP (Qwen3, 64 wide) reads text only")
    for part in ("Load CLIP", "qwen_2.5_vl_7b", "qwen_image", "qwen3vl_4b", "krea2"):
        assert part in text


def test_another_kind_of_clip_says_what_would_work(comfy):
    prompt = from_clip("z-image", TEXT, None)
    prompt["clip"] = node("TestTinyClip", target="sd15", width=64, layers=2)
    text = failed(comfy, prompt, "vlm")
    assert "VLM From CLIP" in text
    for part in ("Qwen3-VL", "Qwen2.5-VL", "Qwen3 (text only)", "Load CLIP", "qwen_image", "krea2"):
        assert part in text


def test_a_model_on_the_clips_input_is_refused(comfy):
    prompt = from_clip("z-image", TEXT, None) | {"unet": z_image()["model"]}
    error = refused(comfy, change(prompt, "vlm", clip=["unet", 0]))
    assert error.node_errors["vlm"]["errors"][0]["type"] == "return_type_mismatch"
    error = refused(comfy, change(prompt, "vlm", preprocessing="nearest"))
    assert error.node_errors["vlm"]["errors"][0]["type"] == "value_not_in_list"
