"""A language model without eyes, in the shape of a VLM's base model."""

from __future__ import annotations

from typing import Any

import torch

from ..families import Family


class TextOnly(torch.nn.Module):
    """Holds a language model under the name that it has inside a VLM.

    Attributes:
        language_model: transformers' model.
        config: Its config.
    """

    def __init__(self, model: Any):
        """Holds the model."""
        super().__init__()
        self.language_model = model
        self.config = model.config


def as_base_model(model: Any, family: Family) -> torch.nn.Module:
    """A model of transformers without its LM head, with a `language_model` in any case."""
    return model if family.has_vision else TextOnly(model)
