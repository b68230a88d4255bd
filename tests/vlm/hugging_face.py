"""The words that the installed transformers has for what the tests compare with."""

import inspect
import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers
from expected import known_fault
from safetensors.torch import load_file

from vlm.families import FAMILIES

# PIL-based image processors are modules of their own, or what is not called fast.
HAS_PIL_MODULES = (
    find_spec("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl") is not None
)

# Where the classes lie: `transformers.models.NAME`.
MODULES = {
    "Gemma3ImageProcessor": "gemma3",
    "GotOcr2ImageProcessor": "got_ocr2",
    "LlavaOnevisionImageProcessor": "llava_onevision",
    "Qwen2VLImageProcessor": "qwen2_vl",
    "SmolVLMImageProcessor": "smolvlm",
}


def pil_module(family):
    """The module `transformers.models.FAMILY` with its PIL-based image processor."""
    kind = "image_processing_pil" if HAS_PIL_MODULES else "image_processing"
    return import_module(f"transformers.models.{family}.{kind}_{family}")


def torchvision_processor(name):
    """The class of an image processor that works with torchvision."""
    return getattr(transformers, name if HAS_PIL_MODULES else f"{name}Fast")


def pil_processor(folder, **settings):
    """The PIL-based image processor of a folder, by the class that its file names.

    From its own module: 5.12 to 5.17 ask for torchvision in AutoImageProcessor, and in what stands
    for some of the classes at the top level, and do not use it.
    """
    files = Path(folder).glob("*processor_config.json")
    read = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    named = [each.get("image_processor", each).get("image_processor_type") for each in read]
    name = next(name for name in named if name).removesuffix("Fast")
    kind = f"{name}Pil" if HAS_PIL_MODULES else name
    return getattr(pil_module(MODULES[name]), kind).from_pretrained(str(folder), **settings)


def plain_model(folder, family, dtype=torch.float32, **settings):
    """A toy folder's model with its LM head and what is said of its weights, as it is loaded.

    Where transformers itself cannot load a published file of the family (`FAULTS` of expected.py),
    its class gets the weights by hand, turned to the shapes that it has.
    """
    architecture = getattr(transformers, FAMILIES[family].architecture)
    if known_fault(f"{family}.config") is None:
        model, info = architecture.from_pretrained(
            str(folder), dtype=dtype, output_loading_info=True, **settings
        )
        return model.eval(), info
    config = transformers.AutoConfig.from_pretrained(str(folder))
    config.get_text_config().pad_token_id = None
    model = architecture._from_config(config, dtype=dtype, **settings)
    wanted = model.state_dict()
    weights = load_file(Path(folder) / "model.safetensors")
    for name, weight in weights.items():
        if weight.shape != wanted[name].shape:
            weights[name] = weight.transpose(1, 2)
    keys = model.load_state_dict(weights)
    return model.eval(), {"missing_keys": keys[0], "unexpected_keys": keys[1]}


def takes(function, name):
    """Whether a function has an argument of that name."""
    return name in inspect.signature(function).parameters


VISION_TOKENS = ("<|image_pad|>", "<|video_pad|>")
PROCESSORS = {
    "qwen3_vl": "Qwen3VLProcessor",
    "qwen2_vl": "Qwen2VLProcessor",
    "qwen2_5_vl": "Qwen2_5_VLProcessor",
    "qwen3_vl_moe": "Qwen3VLProcessor",
    "qwen3_5": "Qwen3VLProcessor",
}


class HuggingFace:
    """A family's own model and processor, used the plain way."""

    def __init__(self, family, folder):
        self.transformers = transformers
        self.family, self.folder = family, folder
        self.chat_settings = FAMILIES[family].chat_settings
        self.model, _ = plain_model(folder, family)
        self.processor = self._processor()
        self.tokenizer = self.processor.tokenizer

    def _processor(self):
        """AutoProcessor; assembled by hand where torchvision is missing, which it insists on."""
        auto, bounds = self.transformers, {}
        if takes(auto.Qwen2VLImageProcessor, "min_pixels"):
            # Then the PIL processor does not read `size` from the file.
            file = json.loads((self.folder / "preprocessor_config.json").read_text())
            size = file.get("size", {})
            bounds["min_pixels"] = file.get("min_pixels", size.get("shortest_edge"))
            bounds["max_pixels"] = file.get("max_pixels", size.get("longest_edge"))
        images = pil_processor(self.folder, **bounds)
        tokenizer = auto.AutoTokenizer.from_pretrained(str(self.folder))
        skip = {"check_argument_for_proper_class": lambda self, name, value: None}
        plain = getattr(auto, PROCESSORS[self.family])
        cls = type(PROCESSORS[self.family], (plain,), skip)
        return cls(images, tokenizer, None, chat_template=tokenizer.chat_template)

    def inputs(self, text, images=(), system=None):
        """What the family's processor makes of the messages, as tensors."""
        content = [{"type": "image", "image": image} for image in images]
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
        if system is not None:
            turn = {"role": "system", "content": [{"type": "text", "text": system}]}
            messages.insert(0, turn)
        rendered = self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, **self.chat_settings
        )
        pictures = {"images": list(images)} if images else {}
        return dict(self.processor(text=[rendered], **pictures, return_tensors="pt"))

    def types(self, ids):
        """`mm_token_type_ids` of ids [1, N], where transformers wants them."""
        if not takes(self.model.model.get_rope_index, "mm_token_type_ids"):
            return {}
        image, video = (self.tokenizer.convert_tokens_to_ids(t) for t in VISION_TOKENS)
        return {"mm_token_type_ids": (ids == image).int() + 2 * (ids == video).int()}

    def streams(self, **inputs):
        """What enters each decoder layer, then the stream after the last, bare and normed."""
        caught, hooks = [], []

        def catch(module, args, kwargs):
            caught.append((args[0] if args else kwargs["hidden_states"]).clone())

        language = self.model.model.language_model
        for module in (*language.layers, language.norm):
            hooks.append(module.register_forward_pre_hook(catch, with_kwargs=True))
        try:
            with torch.no_grad():
                normed = self.model.model(**inputs).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        return caught, normed
