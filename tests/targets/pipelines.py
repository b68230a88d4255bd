"""What diffusers' pipelines make of words and pictures, with a tiny text encoder in them.

A pipeline is built without its VAE and transformer. Where it drops a counted number of leading
tokens, the count is taken again with the tiny model's own tokenizer, of the very same words.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import diffusers
import torch
from diffusers.modular_pipelines.flux3.encoders import Flux3TextEncoderStep
from diffusers.modular_pipelines.minimax_h3.encoders import MiniMaxH3FL2VATextEncoderStep
from diffusers.modular_pipelines.modular_pipeline import PipelineState
from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline

CPU = torch.device("cpu")
# What Qwen3's published chat template puts where thinking is switched off; the toy's has no such.
THINK = "{%- if enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
H3_LAYER, H3_TEXT, H3_VIDEO = 50, 1, 0


def build(name, **parts):
    """A pipeline of diffusers of which only some parts are there."""
    pipeline = getattr(diffusers, name)
    wants = inspect.signature(pipeline.__init__).parameters.values()
    missing = {
        one.name: None
        for one in wants
        if one.name not in ("self", *parts) and one.default is inspect.Parameter.empty
    }
    return pipeline(**missing, **parts)


def count(hf, template):
    """Tokens of a template before the user's words or pictures."""
    head, user, _ = template.partition("<|im_start|>user\n")
    return len(hf.tokenizer(head + user)["input_ids"])


def qwen_image(hf, text, images):
    pipeline = build("QwenImagePipeline", text_encoder=hf.model, tokenizer=hf.tokenizer)
    pipeline.prompt_template_encode_start_idx = count(hf, pipeline.prompt_template_encode)
    return pipeline.encode_prompt(text, device=CPU)[0]


def qwen_image_edit(hf, text, images, name="QwenImageEditPipeline"):
    parts = {"text_encoder": hf.model, "tokenizer": hf.tokenizer, "processor": hf.processor}
    pipeline = build(name, **parts)
    pipeline.prompt_template_encode_start_idx = count(hf, pipeline.prompt_template_encode)

    def add_types(module, args, kwargs):
        return args, kwargs | hf.types(kwargs["input_ids"])

    # Written for transformers 4, which found the pictures by their ids. Without these 5 gives them
    # the positions of words.
    hook = hf.model.register_forward_pre_hook(add_types, with_kwargs=True)
    try:
        return pipeline.encode_prompt(text, images or None, device=CPU)[0]
    finally:
        hook.remove()


def qwen_image_edit_plus(hf, text, images):
    return qwen_image_edit(hf, text, images, "QwenImageEditPlusPipeline")


def qwen_image_21(hf, text, images):
    pipeline = build("QwenImage21Pipeline", text_encoder=hf.model, processor=hf.processor)
    return pipeline.encode_prompt(text, images or None, device=CPU)[0]


def qwen_image_21_edit(hf, text, images):
    states, is_picture = qwen_image_21_pictures(hf, text, images)
    return states[:, ~is_picture]


def qwen_image_21_pictures(hf, text, images):
    """All tokens, and which of them are a picture's: its transformer puts latents there."""
    pipeline = build("QwenImage21Pipeline", text_encoder=hf.model, processor=hf.processor)
    states, _, is_picture = pipeline.encode_prompt(text, images or None, device=CPU)
    return states, is_picture[0].bool()


def hunyuan_image(hf, text, images):
    pipeline = build("HunyuanImagePipeline", text_encoder=hf.model, tokenizer=hf.tokenizer)
    drop = count(hf, pipeline.prompt_template_encode)
    states, mask = pipeline._get_qwen_prompt_embeds(
        hf.tokenizer, hf.model, text, CPU, drop_idx=drop
    )
    return states[mask.bool()][None]


def z_image(hf, text, images):
    pipeline = build("ZImagePipeline", text_encoder=hf.model, tokenizer=hf.tokenizer)
    (states,) = pipeline._encode_prompt(text, device=CPU)
    return states[None]


def klein(hf, text, images):
    if THINK not in hf.tokenizer.chat_template:
        hf.tokenizer.chat_template += THINK
    return Flux2KleinPipeline._get_qwen3_prompt_embeds(hf.model, hf.tokenizer, text, device=CPU)


def flux3(hf, text, images):
    return Flux3TextEncoderStep._get_qwen3_vl_prompt_embeds(
        hf.model, hf.processor, text, device=CPU
    )


def krea2(hf, text, images):
    pipeline = build("Krea2Pipeline", text_encoder=hf.model.model, tokenizer=hf.tokenizer)
    head, tail = pipeline.prompt_template_encode_prefix, pipeline.prompt_template_encode_suffix
    pipeline.prompt_template_encode_start_idx = count(hf, head)
    pipeline.prompt_template_encode_num_suffix_tokens = len(hf.tokenizer(tail)["input_ids"])
    states, mask = pipeline.encode_prompt(text, device=CPU)
    return states[mask.bool()].flatten(1)[None]


def joyimage(hf, text, images):
    pipeline = build(
        "JoyImageEditPipeline",
        text_encoder=hf.model,
        tokenizer=hf.tokenizer,
        processor=hf.processor,
    )
    if images:
        return pipeline.encode_prompt_multiple_images(text, CPU, images=images)[0]
    return pipeline.encode_prompt(text, CPU)[0]


def ideogram4(hf, text, images):
    pipeline = build("Ideogram4Pipeline", text_encoder=hf.model.model, tokenizer=hf.tokenizer)
    states, _, _, kind = pipeline.encode_prompt(text, 1, 1, 2048, CPU)
    real = states[0, :2048].abs().sum(dim=-1) > 0
    return states[0, :2048][real][None]


def minimax_h3(hf, text, images):
    return minimax_h3_state(hf, text, images).get("prompt_embeds")


def minimax_h3_state(hf, text, images):
    """All that its text encoder step leaves: the tags of the tokens too."""
    components = SimpleNamespace(
        text_encoder=hf.model,
        tokenizer=hf.tokenizer,
        processor=hf.processor,
        text_encoder_layer=H3_LAYER,
        text_tag=H3_TEXT,
        video_tag=H3_VIDEO,
        _execution_device=CPU,
    )
    state = PipelineState()
    state.set("prompt", text)
    state.set("keyframes", images)
    _, state = MiniMaxH3FL2VATextEncoderStep()(components, state)
    return state


@dataclass(frozen=True)
class Oracle:
    """What a row is compared with.

    Attributes:
        name: Of the pipeline.
        family: Of the toy.
        layers: Its decoder layers.
        encode: The pipeline's text encoder.
        sizes: Height and width of pictures that the row's own resize and the pipeline's leave as
            they are; as many as it takes.
    """

    name: str
    family: str
    layers: int
    encode: Callable
    sizes: tuple[tuple[int, int], ...] = ()


ORACLES = {
    "z-image": Oracle("ZImagePipeline", "qwen3", 6, z_image),
    "flux2-klein-4b": Oracle("Flux2KleinPipeline", "qwen3", 28, klein),
    "flux2-klein-9b": Oracle("Flux2KleinPipeline", "qwen3", 28, klein),
    "flux3-klein": Oracle("Flux3TextEncoderStep", "qwen3_vl", 34, flux3),
    "krea2": Oracle("Krea2Pipeline", "qwen3_vl", 36, krea2),
    "qwen-image": Oracle("QwenImagePipeline", "qwen2_5_vl", 6, qwen_image),
    "qwen-image with a picture": Oracle(
        "QwenImageEditPipeline", "qwen2_5_vl", 6, qwen_image_edit, ((1036, 1008),)
    ),
    "qwen-image-edit-plus": Oracle(
        "QwenImageEditPlusPipeline",
        "qwen2_5_vl",
        6,
        qwen_image_edit_plus,
        ((392, 364), (336, 448)),
    ),
    "qwen-image-2.1": Oracle(
        "QwenImage21Pipeline", "qwen3_vl", 6, qwen_image_21, ((1024, 1024), (832, 1248))
    ),
    "qwen-image-2.1-edit": Oracle(
        "QwenImage21Pipeline", "qwen3_vl", 6, qwen_image_21_edit, ((1024, 1024), (832, 1248))
    ),
    "hunyuan-image": Oracle("HunyuanImagePipeline", "qwen2_5_vl", 6, hunyuan_image),
    "joyimage": Oracle("JoyImageEditPipeline", "qwen3_vl", 6, joyimage, ((960, 1024),)),
    "ideogram4": Oracle("Ideogram4Pipeline", "qwen3_vl", 36, ideogram4),
    "minimax-h3": Oracle(
        "MiniMaxH3FL2VATextEncoderStep", "qwen3_vl", 52, minimax_h3, ((256, 320), (320, 288))
    ),
}
