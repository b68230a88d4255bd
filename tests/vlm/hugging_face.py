"""The words that the installed transformers has for what the tests compare with."""

import inspect
from importlib.util import find_spec

import transformers

# PIL-based image processors are modules of their own, or what is not called fast.
HAS_PIL_MODULES = (
    find_spec("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl") is not None
)
PIL = {"backend": "pil"} if HAS_PIL_MODULES else {"use_fast": False}


def pil_module(family):
    """The module `transformers.models.FAMILY` with its PIL-based image processor."""
    kind = "image_processing_pil" if HAS_PIL_MODULES else "image_processing"
    return getattr(getattr(transformers.models, family), f"{kind}_{family}")


def torchvision_processor(name):
    """The class of an image processor that works with torchvision."""
    return getattr(transformers, name if HAS_PIL_MODULES else f"{name}Fast")


def pil_processor(folder, **settings):
    """The PIL-based image processor of a folder."""
    processor = transformers.AutoImageProcessor.from_pretrained(str(folder), **PIL, **settings)
    assert not type(processor).__name__.endswith("Fast")
    return processor


def takes(function, name):
    """Whether a function has an argument of that name."""
    return name in inspect.signature(function).parameters
