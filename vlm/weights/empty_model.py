"""A model of transformers without its weights, however large config.json says that they are."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..families import Family
from .base_model import build_base_model
from .folder import UNBUILDABLE, unbuildable

_FILLED = (torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange)
_ALWAYS_FINE = 2**20  # numbers; no table of positions of a toy model is as large


def build_empty(
    config: Any,
    family: Family,
    where: Path,
    dtype: torch.dtype = torch.float32,
    largest: int | None = None,
) -> torch.nn.Module:
    """transformers' base model with its buffers, but without memory for a parameter.

    Buffers are computed while it is built, some in the dtype that the config names, such as the
    number that Gemma 3 multiplies its embeddings with: built in the dtype of the file and then run
    in another one, they would be rounded once too often.

    Args:
        config: transformers' own, of `folder.build_config`; its dtype becomes `dtype`.
        family: Its family.
        where: Whose config it is, for the message.
        dtype: What the model will run in.
        largest: Numbers in the largest tensor of the weights; None = nothing is known of them.

    Raises:
        ValueError: transformers cannot build it, or it has a buffer larger than any weight.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    here = threading.get_ident()

    def without_memory(module: torch.nn.Module, name: str, parameter: Any) -> Any:
        if parameter is None or threading.get_ident() != here:
            return None  # as it is; the hook is asked for every module of the process
        return torch.nn.Parameter(parameter.to("meta"), requires_grad=False)

    _set_dtype(config, dtype)
    hook = register_module_parameter_registration_hook(without_memory)
    try:
        with _Unfilled(largest):
            return build_base_model(config, family)
    except UNBUILDABLE as error:
        raise unbuildable(where, error) from error
    finally:
        hook.remove()


class _Unfilled(TorchFunctionMode):
    """Has tensors that are made to be filled later, as layers make their weights, be nowhere.

    Tensors with numbers in them, such as buffers, are made as always, up to a size.
    """

    def __init__(self, largest: int | None):
        super().__init__()
        self._most = math.inf if largest is None else max(largest, _ALWAYS_FINE)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty:
            return func(*args, **{**kwargs, "device": "meta"})
        if func in _FILLED:
            size = func(*args, **{**kwargs, "device": "meta"}).numel()
            if size > self._most:
                raise ValueError(
                    f"it asks for a tensor of {size} numbers, and the largest weight has "
                    f"{self._most}"
                )
        return func(*args, **kwargs)


def _set_dtype(config: Any, dtype: torch.dtype) -> None:
    """Sets the dtype of a config and of the configs of its parts, as `from_pretrained` does."""
    config.dtype = dtype
    for name in config.sub_configs:
        if getattr(config, name, None) is not None:
            _set_dtype(getattr(config, name), dtype)
