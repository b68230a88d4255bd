"""CLIPs with hooks, made as ComfyUI's hook nodes make them."""

from __future__ import annotations

import comfy.hooks
import torch
from comfy_extras.nodes_hooks import SetClipHooks
from tiny_clips import KINDS

STRENGTHS = [(0.0, 1.0), (0.3, 0.25), (0.7, 0.0)]  # start percent, strength
KEYS = ("layers.0.self_attn.q_proj", "layers.3.mlp.down_proj")


def lora_hooks(clip, kind: str, keyframes=STRENGTHS) -> comfy.hooks.HookGroup:
    """What Create Hook LoRA and Create Hook Keyframe make."""
    key = KINDS[kind].key
    state = clip.cond_stage_model.state_dict()
    noise = torch.Generator().manual_seed(11)
    lora = {}
    for name in KEYS:
        rows, columns = state[f"{key}.transformer.model.{name}.weight"].shape
        base = f"text_encoders.{key}.transformer.model.{name}"
        lora[f"{base}.lora_up.weight"] = torch.randn(rows, 4, generator=noise)
        lora[f"{base}.lora_down.weight"] = torch.randn(4, columns, generator=noise) * 0.1
    hooks = comfy.hooks.create_hook_lora(lora, strength_model=1.0, strength_clip=1.0)
    if keyframes:
        group = comfy.hooks.HookKeyframeGroup()
        for start, strength in keyframes:
            group.add(comfy.hooks.HookKeyframe(strength=strength, start_percent=start))
        hooks.set_keyframes_on_hooks(group)
    return hooks


def hooked(clip, kind: str, schedule: bool, keyframes=STRENGTHS, to_conds: bool = True):
    """What Set CLIP Hooks makes."""
    hooks = lora_hooks(clip, kind, keyframes)
    return SetClipHooks().apply_hooks(clip, schedule, to_conds, hooks)[0]
