"""GGUF text encoders through city96/ComfyUI-GGUF and VLM From CLIP: the CLIP's own bits.

Run by `tests/host/test_gguf.py`, which says where that pack lies.
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import comfy.sd
import gguf
import numpy as np
import pytest
from tiny_clips import KINDS, handed_on, native_encode, ours, text_config, weights_of

PACK = Path(os.environ["COMFYUI_GGUF"])
TEXT = "a red house, 红色的房子 🏠"
LAYERS = {"z-image": 6, "qwen-image": 4}
LOADED_AS = {
    "z-image": (comfy.sd.TEModel.QWEN3_4B, comfy.sd.CLIPType.LUMINA2, "qwen3"),
    "qwen-image": (comfy.sd.TEModel.QWEN25_7B, comfy.sd.CLIPType.QWEN_IMAGE, "qwen2vl"),
}
# llama.cpp's names, in the order to try them.
WORDS = {
    "model.layers.": "blk.", "input_layernorm": "attn_norm", "self_attn.q_norm.": "attn_q_norm.",
    "self_attn.k_norm.": "attn_k_norm.", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate_proj": "ffn_gate",
    "post_attention_layernorm": "ffn_norm", "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
}  # fmt: skip
EYES = {
    "visual.merger.mlp.": "mm.", "visual.merger.ln_q.": "v.post_ln.",
    "visual.patch_embed.proj": "v.patch_embd", "visual.blocks.": "v.blk.", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "mlp.gate_proj": "ffn_gate", "attn.proj.": "attn_out.",
    "norm1.": "ln1.", "norm2.": "ln2.",
}  # fmt: skip


@pytest.fixture(scope="module")
def pack():
    """The other pack's loader node, mounted as ComfyUI mounts it."""
    module = types.ModuleType("gguf_pack")
    module.__path__ = [str(PACK)]
    sys.modules["gguf_pack"] = module
    from gguf_pack.nodes import CLIPLoaderGGUF

    return CLIPLoaderGGUF()


def write(file: Path, arch: str, names: dict[str, str], weights: dict, form: str) -> None:
    """A GGUF file: matrices in `form`, the rest in float32."""
    kind = gguf.GGMLQuantizationType[form]
    writer = gguf.GGUFWriter(str(file), arch)
    if arch == "clip":
        writer.add_type("mmproj")
    for name, tensor in weights.items():
        for theirs, llama in names.items():
            name = name.replace(theirs, llama)
        values = tensor.float().numpy()
        if name == "v.patch_embd.weight":  # one tensor a frame, as llama.cpp's files have it
            for frame, end in enumerate(("", ".1")):
                writer.add_tensor(name + end, np.ascontiguousarray(values[:, :, frame]))
        elif values.ndim == 2 and values.shape[1] % 32 == 0 and "embd" not in name:
            data = gguf.quants.quantize(values, kind)
            writer.add_tensor(name, data, raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def loaded(pack, monkeypatch, tmp_path):
    """`loaded(kind, form, eyes)`: the CLIP that CLIPLoader (GGUF) makes of a tiny file."""

    def load(kind: str, form: str, eyes: bool = True) -> comfy.sd.CLIP:
        recognised, chosen, arch = LOADED_AS[kind]
        one = KINDS[kind]
        weights = weights_of(kind, LAYERS[kind])
        seeing = {name: weight for name, weight in weights.items() if name.startswith("visual.")}
        words = {name: weight for name, weight in weights.items() if name not in seeing}
        file = tmp_path / f"tiny-{form}.gguf"
        write(file, arch, WORDS, words, form)
        if seeing and eyes:
            write(tmp_path / f"tiny-{form}-mmproj.gguf", "clip", EYES, seeing, "F32")
        build = comfy.sd.load_text_encoder_state_dicts

        def build_tiny(*args, model_options, **kwargs):
            sizes = text_config(LAYERS[kind], one.width)
            options = model_options | {f"{one.key}_model_config": sizes}
            return build(*args, model_options=options, **kwargs)

        monkeypatch.setattr(comfy.sd, "load_text_encoder_state_dicts", build_tiny)
        monkeypatch.setattr(comfy.sd, "detect_te_model", lambda _: recognised)
        return pack.load_patcher([str(file)], chosen, pack.load_data([str(file)]))

    return load


@pytest.mark.parametrize("form", ["Q8_0", "Q4_0", "Q5_1", "BF16", "F16"])
def test_words_give_the_clips_own_bits(loaded, as_vlm, native, form):
    clip = loaded("z-image", form)
    want = native_encode(clip, TEXT)
    model = as_vlm(clip)
    assert (ours(model, TEXT, "z-image") == want).all()
    whole = native_encode(native("z-image"), TEXT)
    assert 0 < (want - whole).norm() / whole.norm() < 0.3
    assert (native_encode(clip, TEXT) == want).all()


@pytest.mark.parametrize("form", ["Q8_0", "F16"])
def test_pictures_give_the_clips_own_bits(loaded, as_vlm, picture, form):
    clip = loaded("qwen-image", form)
    image = picture(130, 99)
    want = native_encode(clip, TEXT, images=handed_on("qwen-image", [image]))
    assert (ours(as_vlm(clip), TEXT, "qwen-image", images=[image]) == want).all()
    assert want.isfinite().all()


def test_a_missing_second_file_is_said_where_pictures_are_given(loaded, as_vlm, picture):
    clip = loaded("qwen-image", "Q8_0", eyes=False)
    model = as_vlm(clip)
    assert (ours(model, TEXT, "qwen-image") == native_encode(clip, TEXT)).all()
    with pytest.raises(ValueError, match="without the weights of its vision tower.*mmproj"):
        model.encode(TEXT, images=[picture(130, 99)], depth=1)


def test_the_disk_cache_tells_files_apart(loaded, as_vlm):
    from pack.vlm.running.fingerprint import fingerprint

    digests = [fingerprint(as_vlm(loaded("z-image", form)).backbone) for form in ("Q8_0", "Q4_0")]
    again = fingerprint(as_vlm(loaded("z-image", "Q8_0")).backbone)
    assert digests[0] == again != digests[1]
