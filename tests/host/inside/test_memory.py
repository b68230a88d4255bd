"""Running out of memory, and letting go of a model."""

from __future__ import annotations

import gc
import weakref

import comfy.model_management as management
import pytest
import torch
from tiny_clips import native_encode, ours, tiny_clip, transformer_of
from tiny_hooks import hooked

TEXT = "a red house"


@pytest.fixture(params=["native", "hugging face"])
def model(request, native, as_vlm, tmp_path):
    """A VLM under ComfyUI's memory management, from a CLIP or from VLM Loader."""
    from pack.nodes.devices import ComfyHost
    from pack.vlm import load
    from pack.vlm.tiny.folder import write_tiny

    if request.param == "native":
        yield as_vlm(native("krea2"), "huggingface")
    else:
        folder = write_tiny(tmp_path / "tiny", layers=36)
        yield load(folder, dtype="float32", host=ComfyHost("cpu"))
    management.unload_all_models()


def full(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


@pytest.mark.parametrize("where", ["layer 0", "layer 9", "vision"])
def test_out_of_memory_says_how_much_and_what_helps(model, picture, where):
    image = picture(200, 330)
    want = model.encode(TEXT, images=[image], depth=20).layers([4, 20])
    model.prefix_cache.clear()
    layers = model.backbone.text.layers
    module = model.backbone.visual if where == "vision" else layers[int(where.split()[1])]
    h = model.encode(TEXT, images=[image])
    handle = module.register_forward_pre_hook(full)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        h.reach(20)
    handle.remove()
    assert management.is_oom(caught.value)  # so that ComfyUI unloads all models
    text = str(caught.value)
    needed = max(
        model.backbone.run_bytes(part, h.n, h.prompt.vision_inputs[0].num_patches)
        for part in ("vision", "text")
    )
    assert f"needs about {needed / 2**30:.1f} GB beside its weights for {h.n} tokens" in text
    assert text.startswith("`encode`: out of memory.") and model.name in text
    for advice in ("smaller `max_pixels`", "fewer images", "smaller `dtype`"):
        assert advice in text
    management.unload_all_models()
    assert torch.equal(h.layers([4, 20]), want)  # goes on from what it had
    other = model.encode("another", images=[image], depth=20)
    fresh = model.encode("another", images=[image])
    assert other.reused_tokens == other.prompt.prefix > 0
    model.prefix_cache.clear()
    whole = fresh.layers([20])
    assert (other.layers([20]) - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_words_alone_are_not_told_to_shrink_pictures(model):
    handle = model.backbone.text.layers[3].register_forward_pre_hook(full)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        model.encode(TEXT, depth=5)
    handle.remove()
    assert "max_pixels" not in str(caught.value) and "dtype" in str(caught.value)


def test_other_errors_stay_what_they_are(model):
    def broken(*_):
        raise RuntimeError("something else")

    handle = model.backbone.text.layers[3].register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="something else") as caught:
        model.encode(TEXT, depth=5)
    handle.remove()
    assert not management.is_oom(caught.value)


@pytest.fixture
def no_collector():
    """Without the garbage collector only what refers to itself stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def used(model, picture):
    """Runs a model as nodes do; returns its hidden states."""
    images = [picture(90, 70)] if model.family.has_vision else None
    return model.encode(TEXT, images=images, depth=4).hold_model_weakly()


@pytest.mark.parametrize("hooks", [False, True])
def test_a_clip_and_its_vlm_go_with_their_last_user(no_collector, as_vlm, picture, hooks):
    kind = "qwen-image"
    clip = tiny_clip(kind, num_hidden_layers=4)
    if hooks:
        clip = hooked(clip, kind, schedule=True)
    stage = weakref.ref(clip.cond_stage_model)
    weight = weakref.ref(transformer_of(clip).model.layers[0].mlp.up_proj.weight)
    held = weakref.ref(clip)
    model = as_vlm(clip)
    host, backbone, patcher = (
        weakref.ref(part) for part in (model.host, model.backbone, model.patcher)
    )
    states = used(model, picture)
    del clip
    assert held() is None  # the wrapper is not kept, the weights are
    assert stage() is not None and states.patcher is patcher()
    del model
    assert host() is None and backbone() is None and patcher() is None
    assert stage() is None and weight() is None
    assert states.patcher is None and states.layer(4).shape[1] == states.n
    management.cleanup_models_gc()
    assert all(loaded.model is not None for loaded in management.current_loaded_models)


def test_the_clip_outlives_the_vlm(no_collector, as_vlm, picture):
    clip = tiny_clip("qwen-image", num_hidden_layers=4)
    want = native_encode(clip, TEXT)
    model = as_vlm(clip)
    gone = weakref.ref(model)
    used(model, picture)
    del model
    assert gone() is None
    assert torch.equal(native_encode(clip, TEXT), want)
    assert torch.equal(ours(as_vlm(clip), TEXT, "qwen-image"), want)


def test_a_hugging_face_model_goes_with_its_last_user(no_collector, tmp_path, picture):
    from pack.nodes.devices import ComfyHost
    from pack.vlm import load
    from pack.vlm.tiny.folder import write_tiny

    folder = write_tiny(tmp_path / "tiny", layers=6)
    model = load(folder, dtype="float32", host=ComfyHost("cpu"))
    gc.collect()  # what transformers leaves while it loads
    parts = [weakref.ref(part) for part in (model, model.host, model.backbone, model.patcher)]
    weight = weakref.ref(model.backbone.text.layers[0].mlp.up_proj.weight)
    states = used(model, picture)
    del model
    assert [part() for part in parts] == [None] * 4 and weight() is None
    assert states.patcher is None


def test_unloading_everything_leaves_the_vlm_usable(model, picture):
    want = used(model, picture).layers(range(5))
    management.unload_all_models()
    assert management.current_loaded_models == []
    model.prefix_cache.clear()
    assert torch.equal(used(model, picture).layers(range(5)), want)
    assert model.patcher in [loaded.model for loaded in management.current_loaded_models]
