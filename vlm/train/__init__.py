"""Training connectors: losses, recipes and the run; `python -m vlm train` on the command line."""

from .attention_loss import attention_loss

__all__ = ["attention_loss"]
