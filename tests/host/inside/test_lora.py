"""LoRA patches on a CLIP: ours are the patched CLIP's own bits; the other CLIP keeps its own."""

from __future__ import annotations

import pytest
import torch
from tiny_clips import handed_on, native_encode, ours, tiny_clip

TEXT = "a red house"
# Attention, feed-forward, a norm inside, the embedding and the final norm of four decoder layers;
# and the first layer of the hidden states that each of them changes.
PREFIX = "qwen3_4b.transformer.model."
FIRST_CHANGED = {
    f"{PREFIX}layers.0.self_attn.q_proj.weight": 1,
    f"{PREFIX}layers.2.mlp.down_proj.weight": 3,
    f"{PREFIX}layers.1.input_layernorm.weight": 2,
    f"{PREFIX}embed_tokens.weight": 0,
    f"{PREFIX}norm.weight": 4,
}
PATCHED = tuple(FIRST_CHANGED)


def patched_clone(clip, names, strength: float = 0.5):
    """A clone as LoRA loaders make it."""
    clone = clip.clone()
    state = clip.cond_stage_model.state_dict()
    noise = torch.Generator().manual_seed(7)
    patches = {}
    for name in names:
        shape = state[name].shape
        scale = shape[-1] ** -0.5 if len(shape) > 1 else 0.3
        patches[name] = ("diff", (torch.randn(shape, generator=noise) * scale,))
    assert len(clone.add_patches(patches, strength)) == len(names)
    return clone


@pytest.fixture(scope="module")
def clips():
    """A CLIP and its patched clone, which share their weights."""
    clip = tiny_clip("z-image", num_hidden_layers=4)
    return clip, patched_clone(clip, PATCHED)


def test_patches_count(clips, as_vlm):
    clip, patched = clips
    plain = native_encode(clip, TEXT)
    want = native_encode(patched, TEXT)
    assert (want - plain).abs().max() > 0.1
    assert torch.equal(ours(as_vlm(patched), TEXT, "z-image"), want)
    assert torch.equal(native_encode(clip, TEXT), plain)
    assert torch.equal(ours(as_vlm(clip), TEXT, "z-image"), plain)


@pytest.mark.parametrize("name", PATCHED)
def test_each_patch_counts_by_itself(clips, as_vlm, name):
    clip, _ = clips
    one = patched_clone(clip, (name,))
    models = as_vlm(one), as_vlm(clip)
    h, plain = (model.encode(TEXT, target="chat", depth=4) for model in models)
    changed = [k for k in range(5) if not torch.equal(h.layer(k), plain.layer(k))]
    assert changed == list(range(FIRST_CHANGED[name], 5))
    bare = torch.equal(h.layer(4, final_norm=False), plain.layer(4, final_norm=False))
    assert bare == (name == PREFIX + "norm.weight")


def test_alternating_models_stay_right(clips, as_vlm):
    clip, patched = clips
    wants = [native_encode(one, TEXT) for one in (clip, patched)]
    models = [as_vlm(one) for one in (clip, patched)]
    for turn in (0, 1, 1, 0, 1, 0, 0):
        models[turn].prefix_cache.clear()
        assert torch.equal(ours(models[turn], TEXT, "z-image"), wants[turn])
    assert torch.equal(native_encode(patched, TEXT), wants[1])


def test_a_resumed_run_brings_its_own_weights(clips, as_vlm):
    clip, patched = clips
    model = as_vlm(patched)
    straight = model.encode(TEXT, target="chat", depth=4)
    model.prefix_cache.clear()
    h = model.encode(TEXT, target="chat", depth=1)
    native_encode(clip, TEXT)  # takes the patches off the weights
    h.reach(4)
    assert torch.equal(h.layers(range(5)), straight.layers(range(5)))


def test_strength_counts(clips, as_vlm):
    clip, _ = clips
    seen = []
    for strength in (0.0, 0.5, 1.0):
        one = patched_clone(clip, PATCHED[:2], strength)
        seen.append(native_encode(one, TEXT))
        assert torch.equal(ours(as_vlm(one), TEXT, "z-image"), seen[-1])
    assert torch.equal(seen[0], native_encode(clip, TEXT))
    assert not torch.equal(seen[1], seen[0]) and not torch.equal(seen[2], seen[1])


def test_patches_on_the_vision_tower_count(as_vlm, picture):
    clip = tiny_clip("qwen-image", num_hidden_layers=3)
    patched = patched_clone(clip, ["qwen25_7b.transformer.visual.blocks.0.attn.qkv.weight"])
    images = [picture(120, 90)]
    seen = handed_on("qwen-image", images)
    plain = native_encode(clip, TEXT, images=seen)
    want = native_encode(patched, TEXT, images=seen)
    assert not torch.equal(want, plain)
    assert torch.equal(ours(as_vlm(patched), TEXT, "qwen-image", images=images), want)
    assert torch.equal(ours(as_vlm(clip), TEXT, "qwen-image", images=images), plain)


def lora(clip, rank: int = 2, seed: int = 3):
    """A LoRA for one matrix, as LoRA loaders read it from a file."""
    from comfy.weight_adapter import LoRAAdapter

    noise = torch.Generator().manual_seed(seed)
    shape = clip.cond_stage_model.state_dict()[PATCHED[0]].shape
    up, down = (torch.randn(size, generator=noise) for size in ((shape[0], rank), (rank, shape[1])))
    return {PATCHED[0]: LoRAAdapter(set(), (up, down, 1.0, None, None, None))}


def key_of(clip, patches=None, strength: float = 0.5):
    from pack.nodes.devices import ClipHost

    clone = clip.clone()
    if patches is not None:
        assert clone.add_patches(patches, strength)
    return ClipHost(clone).patches


def test_the_disk_caches_key_is_of_the_loras_content(clips):
    clip, patched = clips
    key = key_of(clip, lora(clip))
    assert key == key_of(clip, lora(clip)) and len(key) == 64
    assert key_of(patched) == key_of(patched_clone(clip, PATCHED))
    diff = patched.patcher.patches[PATCHED[0]][0][1]
    others = [
        key_of(clip, lora(clip, seed=4)), key_of(clip, lora(clip, rank=3)),
        key_of(clip, lora(clip), 0.6), key_of(patched), key_of(patched, lora(clip)),
        key_of(clip, {PATCHED[0]: diff}), key_of(clip, {PATCHED[1]: diff}), key_of(clip),
    ]  # fmt: skip
    assert None not in others and len({key, *others}) == len(others) + 1


@pytest.mark.parametrize("kind", ["injections", "weight_wrapper_patches", "object_patches"])
def test_what_cannot_be_told_by_its_content_is_not_kept(clips, kind):
    clip, _ = clips
    clone = clip.clone()
    getattr(clone.patcher, kind)["something"] = [lambda: None]
    assert key_of(clone) is None and key_of(clip) is not None


def test_a_merge_by_a_function_is_not_kept(clips):
    clip, _ = clips
    merged = {PATCHED[0]: [(torch.zeros(2, 2), lambda weight, inplace: weight)]}
    assert key_of(clip, merged) is None


def test_the_disk_cache_finds_a_lora_again(clips, tmp_path, counted, monkeypatch):
    """Whatever is written into the weights when the key is made."""
    from pack.nodes import clip as node
    from pack.vlm.running.disk_cache import DiskCache

    clip, _ = clips
    monkeypatch.setattr(node, "disk_cache", lambda _: DiskCache(tmp_path, 64))

    def encode(one):
        model = node.vlm_from_clip(one, "huggingface", 0, 64)
        ran = counted(model)
        return model.encode(TEXT, target="chat", depth=4).layer(4, final_norm=False), len(ran)

    wants = []
    for strength in (0.5, None):
        native_encode(clip, TEXT)  # takes patches off the weights
        one = clip.clone() if strength is None else patched_clone(clip, PATCHED, strength)
        states, ran = encode(one)
        wants.append(states)
        assert ran == 4
    for strength, want in zip((0.5, None), wants, strict=True):
        one = clip.clone() if strength is None else patched_clone(clip, PATCHED, strength)
        for before in (clip, patched_clone(clip, PATCHED[:2])):
            native_encode(before, TEXT)
            states, ran = encode(one)
            assert ran == 0 and torch.equal(states, want)
