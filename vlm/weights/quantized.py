"""Models that transformers quantises while it loads, or that were saved quantised.

bitsandbytes' layers are made by transformers itself, so these folders go through `from_pretrained`
and not through `vlm.weights.checkpoint`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..families import Family
from ..quoted import reason, told
from .base_model import find_base_model

QUANTIZE = ("8-bit", "4-bit")
_PACKAGES = ("bitsandbytes", "accelerate")


def check_quantize(quantize: str | None) -> str | None:
    """The choice, if it exists and bitsandbytes is there for it.

    Raises:
        ValueError: No such choice, or bitsandbytes is not installed.
    """
    if quantize is None:
        return None
    if quantize not in QUANTIZE:
        raise ValueError(
            f"There is no quantisation {told(quantize)}. Choose {' or '.join(QUANTIZE)}, or none."
        )
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"Loading in {quantize} needs {' and '.join(missing)}, which is not installed. Run "
            f"`pip install {' '.join(missing)}` in ComfyUI's Python, or set quantize to none."
        )
    return quantize


def load_quantized(
    path: Path,
    config: Any,
    family: Family,
    quantize: str | None,
    dtype: str | torch.dtype,
    device: torch.device,
) -> torch.nn.Module:
    """transformers' base model of a folder, with quantised layers.

    Args:
        path: A folder in Hugging Face layout.
        config: transformers' own, of `folder.build_config`.
        family: Its family.
        quantize: One of QUANTIZE, which leaves the vision tower as it is; None = the folder's
            config.json says how it was saved.
        dtype: Of everything that is not quantised; "auto" = as in the files.
        device: Where the weights go, and are quantised.

    Returns:
        The model in eval mode, without its LM head.

    Raises:
        ValueError: The weights do not fit, or cannot be quantised on this machine.
    """
    import transformers

    options = {"device_map": {"": device}} if find_spec("accelerate") else {}
    if quantize is not None:
        options["quantization_config"] = _bitsandbytes(quantize, dtype, family)
    try:
        model, info = getattr(transformers, family.architecture).from_pretrained(
            str(path),
            config=config,
            dtype=dtype,
            attn_implementation="sdpa",
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be loaded {f'in {quantize}' if quantize else 'as it was quantised'}: "
            f"transformers says {reason(error)}. Set quantize to none, or choose a folder that "
            "is not quantised."
        ) from error
    except ImportError as error:
        raise ValueError(
            f"{path} was saved quantised and needs a package that is not installed: "
            f"{reason(error)}. Install it, or choose a folder that is not quantised."
        ) from error
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("lm_head"))
    if missing:
        raise ValueError(
            f"The weights in {path} lack {len(missing)} tensors of {family.title}, the first is "
            f"{missing[0]}. Download the files of the model again."
        )
    base = find_base_model(model.eval().requires_grad_(False), family)
    if quantize == "8-bit":
        _let_them_move(base)
    return base


class _Moving(torch.nn.Module):
    """Put before bitsandbytes' 8-bit layer: what it keeps beside its weight moves along.

    It overrides `to` for that, which is not called when a module around it moves; what stays
    behind would be used by the next run, and would keep memory that was asked back.

    Attributes:
        state: bitsandbytes' own, of the last product.
        weight: Its parameter.
    """

    state: Any
    weight: Any

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        for holder in (self.state, self.weight):
            if holder.CB is not None:
                holder.CB = self.weight.data  # the weight itself
            if holder.SCB is not None:
                holder.SCB = fn(holder.SCB)
        return self


def _let_them_move(model: torch.nn.Module) -> None:
    """Makes the 8-bit layers of a model ones that can be moved, in place."""
    from bitsandbytes.nn import Linear8bitLt

    # It stays bitsandbytes' by name: that is how hosts know layers that they must not take apart.
    names = {"__module__": Linear8bitLt.__module__}
    kind = type(Linear8bitLt.__name__, (_Moving, Linear8bitLt), names)
    for layer in model.modules():
        if type(layer) is Linear8bitLt:
            layer.__class__ = kind


def _bitsandbytes(quantize: str, dtype: str | torch.dtype, family: Family) -> Any:
    """Settings of bitsandbytes: LLM.int8 or NF4, computing in the residual stream's dtype."""
    from transformers import BitsAndBytesConfig

    # Named as in the whole model and, for older versions, as in the base model.
    whole = ["lm_head", *family.towers, *(f"model.{name}" for name in family.towers)]
    if quantize == "8-bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=whole)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16 if dtype == "auto" else dtype,
        llm_int8_skip_modules=whole,
    )
