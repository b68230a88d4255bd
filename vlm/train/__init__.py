"""Training connectors: losses, recipes and the run; `python -m vlm train` on the command line."""

from .attention_loss import attention_loss
from .features_loss import features_loss

__all__ = ["attention_loss", "features_loss"]
