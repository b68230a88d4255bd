"""Files in the precisions people have, through ComfyUI's own loader: the CLIP's own bits."""

from __future__ import annotations

import comfy.sd
import pytest
import torch
from comfy.quant_ops import QuantizedTensor
from safetensors.torch import save_file
from tiny_clips import (
    KINDS,
    handed_on,
    native_encode,
    ours,
    text_config,
    transformer_of,
    weights_of,
)

TEXT = "a red house"
FP8 = torch.float8_e4m3fn
# What the loader recognises by sizes that a tiny file has not, and the type chosen on Load CLIP.
LOADED_AS = {
    "z-image": (comfy.sd.TEModel.QWEN3_4B, comfy.sd.CLIPType.LUMINA2),
    "krea2": (comfy.sd.TEModel.QWEN3VL_4B, comfy.sd.CLIPType.KREA2),
    "qwen-image": (comfy.sd.TEModel.QWEN25_7B, comfy.sd.CLIPType.QWEN_IMAGE),
}
LAYERS = {"z-image": 6, "krea2": 36, "qwen-image": 4}


def is_matrix(name: str, tensor: torch.Tensor) -> bool:
    """Whether a quantised file stores it quantised: the linear layers of the language model."""
    return name.startswith("model.layers.") and tensor.ndim == 2


def plain(dtype: torch.dtype):
    def convert(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor.to(dtype) for name, tensor in weights.items()}

    return convert


def fp8_scaled(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The older layout: `scaled_fp8` marks the file, each matrix has its `scale_weight`."""
    made = {"scaled_fp8": torch.zeros(2, dtype=FP8)}
    for name, tensor in weights.items():
        if not is_matrix(name, tensor):
            made[name] = tensor.to(torch.bfloat16)
            continue
        scale = tensor.abs().max() / 448
        made[name] = (tensor / scale).to(FP8)
        made[name.removesuffix("weight") + "scale_weight"] = scale
        made[name.removesuffix("weight") + "scale_input"] = torch.tensor(1.0)
    return made


def quantised(layout: str, conf: str):
    """The newer layout: `comfy_quant` beside each matrix says how it is stored."""

    def convert(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        made = {}
        for name, tensor in weights.items():
            if not is_matrix(name, tensor):
                made[name] = tensor.to(torch.bfloat16)
                continue
            stored = QuantizedTensor.from_float(tensor.to(torch.bfloat16), layout)
            made |= {k: v.contiguous() for k, v in stored.state_dict(name).items()}
            mark = torch.tensor(list(f'{{"format": "{conf}"}}'.encode()), dtype=torch.uint8)
            made[name.removesuffix("weight") + "comfy_quant"] = mark
        return made

    return convert


FORMS = {
    "bfloat16": plain(torch.bfloat16),
    "float16": plain(torch.float16),
    "fp8": plain(FP8),
    "fp8 scaled": fp8_scaled,
    "fp8 comfy_quant": quantised("TensorCoreFP8E4M3Layout", "float8_e4m3fn"),
    "int8": quantised("TensorWiseINT8Layout", "int8_tensorwise"),
    "nvfp4": quantised("TensorCoreNVFP4Layout", "nvfp4"),
}


def published(kind: str, name: str) -> str:
    """A tensor's name in the published file, which the loader changes into its own."""
    if kind != "krea2" or name == "scaled_fp8":
        return name
    return f"model.{name}" if name.startswith("visual.") else f"model.language_{name}"


@pytest.fixture
def loaded(monkeypatch, tmp_path):
    """`loaded(kind, form)`: the CLIP that Load CLIP makes of a tiny file in that form."""

    def load(kind: str, form: str) -> comfy.sd.CLIP:
        recognised, chosen = LOADED_AS[kind]
        monkeypatch.setattr(comfy.sd, "detect_te_model", lambda _: recognised)
        weights = FORMS[form](weights_of(kind, LAYERS[kind]))
        file = tmp_path / f"{kind}.safetensors"
        save_file({published(kind, name): tensor for name, tensor in weights.items()}, str(file))
        one = KINDS[kind]
        options = {f"{one.key}_model_config": text_config(LAYERS[kind], one.width)}
        return comfy.sd.load_clip([str(file)], clip_type=chosen, model_options=options)

    return load


def storages(clip: comfy.sd.CLIP) -> set[str]:
    """How the matrices of the language model are stored."""
    weights = [layer.mlp.up_proj.weight.data for layer in transformer_of(clip).model.layers]
    stored = [w._qdata if isinstance(w, QuantizedTensor) else w for w in weights]
    return {str(tensor.dtype).removeprefix("torch.") for tensor in stored}


STORED = {
    "bfloat16": "bfloat16", "float16": "float16", "fp8": "float8_e4m3fn",
    "fp8 scaled": "float8_e4m3fn", "fp8 comfy_quant": "float8_e4m3fn", "int8": "int8",
    "nvfp4": "uint8",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_words_give_the_clips_own_bits(loaded, as_vlm, form):
    clip = loaded("z-image", form)
    assert storages(clip) == {STORED[form]}
    want = native_encode(clip, TEXT)
    model = as_vlm(clip)
    assert torch.equal(ours(model, TEXT, "z-image"), want)
    assert want.isfinite().all() and want.std() > 0.1
    assert storages(clip) == {STORED[form]}
    assert torch.equal(native_encode(clip, TEXT), want)
    assert model.encode(TEXT).dtype == torch.float32


@pytest.mark.parametrize("kind", ["krea2", "qwen-image"])
@pytest.mark.parametrize("form", ["bfloat16", "fp8 scaled"])
def test_pictures_give_the_clips_own_bits(loaded, as_vlm, picture, kind, form):
    clip = loaded(kind, form)
    assert storages(clip) == {STORED[form]}
    image = picture(130, 99)
    template = None
    if kind == "krea2":
        eye = "<|vision_start|><|image_pad|><|vision_end|>"
        template = clip.tokenizer.llama_template.replace("user\n{}", f"user\n{eye}{{}}")
    want = native_encode(clip, TEXT, images=handed_on(kind, [image]), llama_template=template)
    assert torch.equal(ours(as_vlm(clip), TEXT, kind, images=[image]), want)
    assert want.isfinite().all()


@pytest.mark.parametrize("form", ["fp8 scaled", "int8"])
def test_a_quantised_file_is_near_the_whole_one(loaded, native, as_vlm, form):
    whole = native_encode(native("z-image"), TEXT)
    error = (ours(as_vlm(loaded("z-image", form)), TEXT, "z-image") - whole).norm() / whole.norm()
    assert 1e-3 < error < 0.2
