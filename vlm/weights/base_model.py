"""transformers' base model, in one shape for every family."""

from __future__ import annotations

from typing import Any

import torch

from ..families import Family


class TextOnly(torch.nn.Module):
    """Holds a language model without eyes under the name that it has inside a VLM.

    Attributes:
        language_model: transformers' model.
        config: Its config.
    """

    def __init__(self, model: Any):
        """Holds the model."""
        super().__init__()
        self.language_model = model
        self.config = model.config


def build_base_model(config: Any, family: Family) -> torch.nn.Module:
    """transformers' base model of a config, with a `language_model` in any case."""
    import transformers

    if family.base_model is None:
        model = transformers.AutoModel.from_config(
            config, attn_implementation="sdpa", trust_remote_code=False
        )
        return model if family.has_vision else TextOnly(model)
    kind = getattr(transformers, family.architecture)
    return family.base_model(kind._from_config(config, attn_implementation="sdpa"))


def find_base_model(whole: Any, family: Family) -> torch.nn.Module:
    """The base model in a model of the family's `architecture`, likewise."""
    if family.base_model is not None:
        return family.base_model(whole)
    return whole.model if family.has_vision else TextOnly(whole.model)
