"""CLIPs with hooks: one entry per keyframe, as ComfyUI's own scheduled encode makes them."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_clips import KINDS, handed_on, native_encode, tiny_clip
from tiny_hooks import KEYS, hooked

TEXT = "a red house"


def scheduled(clip, **tokenize):
    return clip.encode_from_tokens_scheduled(clip.tokenize(TEXT, **tokenize), show_pbar=False)


def selected(model, kind: str, **encode):
    """VLM Encode and Hidden Layer Select with `auto`: CONDITIONING, and the hidden states."""
    from pack.nodes.select import HiddenLayerSelect

    h = model.encode(TEXT, target=KINDS[kind].target, **encode)
    for each in h.keyframes:
        each.reach(each.target.depth(each.num_layers, each.has_images))
    return HiddenLayerSelect.execute(h, "auto").args[0], h


def facts(options: dict) -> dict:
    """The options that say when an entry counts, and which hooks come with it."""
    return {name: options.get(name) for name in ("clip_start_percent", "clip_end_percent", "hooks")}


def assert_same(entries, wants):
    assert len(entries) == len(wants)
    for (states, options), (want, theirs) in zip(entries, wants, strict=True):
        assert torch.equal(states, want)
        assert facts(options) == facts(theirs)


@pytest.fixture(scope="module", params=["z-image", "qwen-image"])
def kind_and_clip(request):
    return request.param, tiny_clip(request.param, num_hidden_layers=5)


@pytest.mark.parametrize("to_conds", [True, False])
def test_one_entry_per_keyframe(kind_and_clip, as_vlm, to_conds):
    kind, clip = kind_and_clip
    plain = native_encode(clip, TEXT)
    one = hooked(clip, kind, True, to_conds=to_conds)
    wants = scheduled(one)
    assert [facts(options)["clip_start_percent"] for _, options in wants] == [0.0, 0.3, 0.7]
    assert all(("hooks" in options) == to_conds for _, options in wants)
    assert not torch.equal(wants[0][0], wants[1][0])
    model = as_vlm(one, prefix_cache_mb=0)  # run whole each time: the same bits
    entries, _ = selected(model, kind)
    assert_same(entries, wants)
    assert [json.loads(o["vlm_tokens"])["n"] for _, o in entries] == [
        states.shape[1] for states, _ in wants
    ]
    assert torch.equal(entries[2][0], plain)  # strength 0
    assert_same(selected(model, kind)[0], wants)
    assert_same(scheduled(one), wants)  # natively, after us
    assert torch.equal(native_encode(clip, TEXT), plain)


def test_hooks_are_left_as_they_were(kind_and_clip, as_vlm):
    kind, clip = kind_and_clip
    one = hooked(clip, kind, True)
    scheduled(one)
    groups = [hook.hook_keyframe for hook in one.patcher.forced_hooks.hooks]
    before = [(group._current_keyframe, group._current_index) for group in groups]
    selected(as_vlm(one), kind)
    assert [(group._current_keyframe, group._current_index) for group in groups] == before
    assert len(one.patcher.hook_patches) == 1


def test_pictures_and_known_beginnings_do_not_mix_keyframes(as_vlm, picture):
    kind = "qwen-image"
    clip = tiny_clip(kind, num_hidden_layers=5)
    one = hooked(clip, kind, True)
    image = picture(120, 90)
    wants = scheduled(one, images=handed_on(kind, [image]))
    model = as_vlm(one)
    assert_same(selected(model, kind, images=[image])[0], wants)
    assert len(model.prefix_cache) == 3
    again, h = selected(model, kind, images=[image])
    assert [each.reused_tokens > 0 for each in h.keyframes] == [True] * 3
    for (states, _), (want, _) in zip(again, wants, strict=True):
        assert (states - want).abs().max() <= 1e-5 * want.abs().max()


def test_deeper_layers_of_each_keyframe_are_its_own(kind_and_clip, as_vlm):
    kind, clip = kind_and_clip
    one = hooked(clip, kind, True)
    model = as_vlm(one, prefix_cache_mb=0)
    straight = [each.layers(range(6)) for each in model.encode(TEXT, depth=5).keyframes]
    h = model.encode(TEXT, depth=2)
    assert [each.depth for each in h.keyframes] == [2, 2, 2]
    for index in (1, 0, 2):
        deeper = h.keyframes[index].layers(range(6))
        assert torch.equal(deeper, straight[index])
        native_encode(clip, TEXT)
    assert not torch.equal(straight[0], straight[1])


def test_filters_and_selections_keep_every_entry(kind_and_clip, as_vlm):
    from pack.nodes.select import HiddenLayerSelect
    from pack.nodes.tokens import TokenFilter

    kind, clip = kind_and_clip
    one = hooked(clip, kind, True)
    wants = scheduled(one)
    _, h = selected(as_vlm(one), kind)
    kept = TokenFilter.execute(h, "prompt").args[0]
    entries = HiddenLayerSelect.execute(kept, "auto").args[0]
    assert [facts(options) for _, options in entries] == [facts(options) for _, options in wants]
    words = h.token_map["role"].count("text")
    assert [states.shape[1] for states, _ in entries] == [words] * 3
    places = [i for i, role in enumerate(h.token_map["role"]) if role == "text"]
    for (states, _), (want, _) in zip(entries, wants, strict=True):
        assert torch.equal(states, want[:, [place - h.dropped for place in places]])


def test_unscheduled_hooks_count_throughout(kind_and_clip, as_vlm):
    kind, clip = kind_and_clip
    plain = native_encode(clip, TEXT)
    one = hooked(clip, kind, False)
    wants = scheduled(one)
    assert len(wants) == 1 and not torch.equal(wants[0][0], plain)
    model = as_vlm(one, prefix_cache_mb=0)
    assert_same(selected(model, kind)[0], wants)
    assert torch.equal(native_encode(clip, TEXT), plain)
    assert_same(selected(model, kind)[0], wants)


def test_hooks_without_keyframes_are_one_entry(kind_and_clip, as_vlm):
    kind, clip = kind_and_clip
    one = hooked(clip, kind, True, keyframes=None)
    wants = scheduled(one)
    assert [facts(options)["clip_end_percent"] for _, options in wants] == [1.0]
    assert_same(selected(as_vlm(one), kind)[0], wants)


def test_hooks_on_top_of_a_lora(kind_and_clip, as_vlm):
    kind, clip = kind_and_clip
    patched = clip.clone()
    name = f"{KINDS[kind].key}.transformer.model.{KEYS[0]}.weight"
    shape = clip.cond_stage_model.state_dict()[name].shape
    patched.add_patches({name: ("diff", (torch.full(shape, 0.05),))}, 1.0)
    one = hooked(patched, kind, True)
    wants = scheduled(one)
    assert_same(selected(as_vlm(one), kind)[0], wants)
    assert torch.equal(wants[2][0], native_encode(patched, TEXT))
