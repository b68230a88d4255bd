"""VLM From CLIP: the text encoder that Load CLIP loaded, as a VLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from comfy.ldm.modules.attention import optimized_attention_for_device
from comfy.text_encoders.qwen_vl import process_qwen2vl_images
from comfy_api.latest import io

from ..vlm.families import Family
from ..vlm.model import VLM
from ..vlm.pictures.images import PixelRules
from ..vlm.pictures.native_resize import BILINEAR
from ..vlm.pictures.preprocessor import Preprocessor
from ..vlm.prompts.prompt_syntax import PromptSyntax
from ..vlm.prompts.sentencepiece_tokenizer import SentencePieceTokenizer
from ..vlm.prompts.tokenizer import Tokenizer
from ..vlm.running.engine import Engine
from ..vlm.running.native import NativeBackbone
from ..vlm.running.native_gemma3 import NativeGemma3
from ..vlm.running.native_kinds import kind_of_native
from ..vlm.running.native_preprocessor import native_preprocessor
from ..vlm.running.prefix_cache import PrefixCache
from ..vlm.weights.lm_head import FileHead
from .caches import disk_cache, disk_cache_input, prefix_cache_input
from .devices import ClipHost
from .shown import shown
from .sockets import Model

HUGGING_FACE, COMFYUI = "huggingface", "comfyui"
# ComfyUI's classes of text encoders, and what the model inside is called where that decides.
_ENCODERS = {
    ("ZImageTEModel", ""): "z-image",
    ("Krea2TEModel", ""): "krea2",
    ("QwenImageTEModel", ""): "qwen-image",
    ("QwenImage21TEModel", ""): "qwen-image-2.1",
    ("Flux2TEModel", "qwen3_4b"): "flux2-klein-4b",
    ("Flux2TEModel", "qwen3_8b"): "flux2-klein-9b",
    ("HunyuanImageTEModel", ""): "hunyuan-image",
    ("MiniMaxH3TEModel", ""): "minimax-h3",
    ("MageFlowTEModel", ""): "mage-flow",
    ("BooguTEModel", ""): "boogu",
    ("JoyImageTEModel", ""): "joyimage",
    ("Ideogram4TEModel", ""): "ideogram4",
    ("Ideogram4Qwen3VLTEModel", ""): "ideogram4",
    ("FluxClipModel", ""): "flux1",
}
# Targets that read the same CLIP, laid out another way.
_ALSO = {
    "krea2": ("krea2-edit",),
    "qwen-image": ("qwen-image-edit-plus",),
    "qwen-image-2.1": ("qwen-image-2.1-edit",),
}
# By ComfyUI's own tokenizer: to read one takes a second, and Image Prompt asks in every run.
_READ: WeakKeyDictionary[Any, dict[str, Tokenizer]] = WeakKeyDictionary()


def _attention(device: torch.device) -> Any:
    """The attention that ComfyUI's text encoders choose for themselves."""
    return optimized_attention_for_device(device, mask=True, small_input=True)


def _patches(
    picture: torch.Tensor, rules: PixelRules, least: int | None, most: int | None, way: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """ComfyUI's own preprocessing of a picture."""
    given = {"min_pixels": least, "max_pixels": most}
    if way != BILINEAR:  # which is its default; older ones know no other
        given["interpolation"] = way
    return process_qwen2vl_images(
        picture,
        patch_size=rules.patch,
        temporal_patch_size=rules.temporal,
        merge_size=rules.merge,
        image_mean=list(rules.mean),
        image_std=list(rules.std),
        **{name: value for name, value in given.items() if value is not None},
    )


def vlm_from_clip(
    clip: Any,
    preprocessing: str,
    prefix_cache_mb: float,
    disk_cache_mb: int = 0,
    *,
    name: str | None = None,
    head: FileHead | None = None,
) -> VLM:
    """A VLM around the text encoder of a CLIP, which stays as it is.

    Args:
        clip: ComfyUI's CLIP.
        preprocessing: HUGGING_FACE or COMFYUI.
        prefix_cache_mb: Bound of the prefix cache, MB.
        disk_cache_mb: Bound of the disk cache, MB; 0 = none.
        name: What messages call it; None = "This CLIP" and what it is.
        head: The LM head in the file, for what ComfyUI leaves out.

    Raises:
        ValueError: A text encoder that this pack cannot run.
    """
    encoder = _encoder(clip.cond_stage_model)
    host = ClipHost(clip)
    family, kind = kind_of_native(encoder.transformer)
    backbone = kind(encoder.transformer, family, host.device, _attention, head)
    native = _native_tokenizer(clip)
    engine = Engine(
        name or f"This CLIP ({family.title}, {backbone.width} wide)",
        family,
        backbone,
        host,
        PrefixCache(prefix_cache_mb),
        disk_cache(disk_cache_mb),
    )
    return VLM(
        engine,
        _tokenizer(native.tokenizer, family),
        _preprocessor(backbone, family, preprocessing),
        layer=clip.layer_idx,
        syntax=PromptSyntax(native.embedding_directory),
    )


def _native_tokenizer(clip: Any) -> Any:
    """ComfyUI's tokenizer of a CLIP."""
    native = clip.tokenizer
    # Some tokenizers are several, some call theirs otherwise than the model, some are none but one.
    names = (getattr(each, "clip", "") for each in (native, clip.cond_stage_model))
    return next((getattr(native, name) for name in names if hasattr(native, name)), native)


def _tokenizer(own: Any, family: Family) -> Tokenizer:
    """What it splits text with, with the family's chat template; read once."""
    read = _READ.setdefault(own, {})
    if family.title not in read:
        read[family.title] = _read_tokenizer(own, family)
    return read[family.title]


def _read_tokenizer(own: Any, family: Family) -> Tokenizer:
    if hasattr(own, "serialize_model"):  # SentencePiece, which came with the weights
        return SentencePieceTokenizer(own.tokenizer, own.special_tokens, family.chat_template)
    return Tokenizer(Path(own.name_or_path), family.chat_template)


def _preprocessor(backbone: NativeBackbone, family: Family, way: str) -> Preprocessor | None:
    """How a CLIP's pictures are prepared.

    Raises:
        ValueError: ComfyUI's way for a Gemma 3, which would cut the picture's sides off.
    """
    if not isinstance(backbone, NativeGemma3):
        return native_preprocessor(backbone.visual, family, _patches if way == COMFYUI else None)
    if backbone.visual is None:
        return None
    if way == COMFYUI:
        raise ValueError(
            "ComfyUI's own way of resizing cuts off what is not square of a picture for Gemma 3. "
            f"Set preprocessing on VLM From CLIP to {HUGGING_FACE}."
        )
    return backbone.square()


def _encoder(stage: Any) -> Any:
    """The one text encoder in a CLIP's model.

    Raises:
        ValueError: There are several, or one that is built another way.
    """
    encoder = getattr(stage, getattr(stage, "clip", ""), stage)
    if hasattr(encoder, "transformer"):
        return encoder
    raise ValueError(
        f"This CLIP holds {type(stage).__name__}, not one text encoder of those that VLM From CLIP "
        "runs: Qwen3-VL, Qwen2.5-VL, Qwen3.5, Gemma 3 (text and pictures) and Qwen3 (text only). "
        "Load such a file with Load CLIP, for example qwen_2.5_vl_7b_fp8_scaled.safetensors with "
        "type qwen_image."
    )


def target_of_clip(clip: Any) -> str | None:
    """The target whose own text encoder a CLIP is; None where it is none that is known."""
    stage = clip.cond_stage_model
    inside = getattr(stage, "clip", "")
    for made in type(stage).__mro__:
        found = _ENCODERS.get((made.__name__, inside)) or _ENCODERS.get((made.__name__, ""))
        if found is not None:
            return found
    return None


def reads_for(own: str, target: str) -> bool:
    """Whether the CLIP of one target is the text encoder of another one, too."""
    return own == target or target in _ALSO.get(own, ())


class VLMFromCLIP(io.ComfyNode):
    """Reuses the weights of a CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCFromCLIP",
            display_name="VLM From CLIP",
            category="VLM Conditioning/load",
            description="The text encoder inside a CLIP as a VLM: no second copy of the "
            "weights on disk or in memory. Qwen3-VL, Qwen2.5-VL, Qwen3.5 and Gemma 3 read text and "
            "pictures, Qwen3 text only. LoRA patches, hooks and CLIP Set Last Layer on the CLIP "
            "count.",
            search_aliases=[
                "VLM",
                "CLIP to VLM",
                "Load CLIP",
                "Qwen3-VL",
                "Qwen2.5-VL",
                "Qwen3",
                "Gemma 3",
            ],
            inputs=[
                io.Clip.Input(
                    "clip",
                    tooltip="From Load CLIP: Qwen3-VL, Qwen2.5-VL, Qwen3.5, Gemma 3 or Qwen3, in "
                    "any precision that Load CLIP takes; or from CLIPLoader (GGUF). It can go to "
                    "other nodes as well.",
                ),
                io.Combo.Input(
                    "preprocessing",
                    options=[HUGGING_FACE, COMFYUI],
                    default=HUGGING_FACE,
                    tooltip="How pictures are resized before the vision tower. huggingface = "
                    "antialiased bicubic, as the model was trained; comfyui = bilinear, "
                    "as ComfyUI's own text encode nodes do (not for Gemma 3).",
                ),
                prefix_cache_input(),
                disk_cache_input(),
            ],
            outputs=[Model.Output(display_name="model", tooltip="The model, for VLM Encode.")],
        )

    @classmethod
    def execute(
        cls, clip: Any, preprocessing: str, prefix_cache_mb: int = 1024, disk_cache_mb: int = 0
    ) -> io.NodeOutput:
        """Wraps the CLIP; nothing is loaded or run."""
        if clip is None:
            raise ValueError(
                "clip on VLM From CLIP is empty: the file has no text encoder. Connect Load CLIP."
            )
        model = vlm_from_clip(clip, preprocessing, prefix_cache_mb, disk_cache_mb)
        backbone = model.backbone
        senses = "text and pictures" if model.family.has_vision else "text only"
        line = (
            f"{model.family.title} ({senses}), {backbone.num_decoder_layers} layers, "
            f"{backbone.width} wide, as Load CLIP holds it"
        )
        return shown(line, model)


NODES = [VLMFromCLIP]
