"""The words that the installed transformers has for what the tests compare with."""

import inspect
import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import transformers

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


def takes(function, name):
    """Whether a function has an argument of that name."""
    return name in inspect.signature(function).parameters
