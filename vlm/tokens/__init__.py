"""What is done to tokens: chosen layers, filters, statistics, blends, masks."""

from .tokens import Tokens

__all__ = ["Tokens"]
