"""VLM conditioning: what a vision-language model understands, as conditioning for diffusion models.

The library has no ComfyUI in it. Importing it is cheap: transformers and matplotlib load on first
use.

    import vlm

    v = vlm.load("tiny")
    h = v.encode("a red house", images=[picture], target="z-image")
    t = vlm.select_layers(h)
    t = vlm.filter_tokens(t, keep="text")
"""

from .blend import blend
from .check import Needs, check
from .entries import Entry, read_entries, write_entries
from .filter import filter_tokens
from .handover import hand_over
from .load import load
from .normalize import normalize
from .outliers import mask_outliers
from .select import select_layers
from .stats import Stats, load_stats, measure_stats, save_stats
from .style import add_style, style_delta
from .targets import TARGETS
from .templates import TEMPLATES
from .tokens import Tokens

__all__ = [
    "TARGETS",
    "TEMPLATES",
    "Entry",
    "Needs",
    "Stats",
    "Tokens",
    "add_style",
    "blend",
    "check",
    "filter_tokens",
    "hand_over",
    "load",
    "load_stats",
    "mask_outliers",
    "measure_stats",
    "normalize",
    "read_entries",
    "save_stats",
    "select_layers",
    "style_delta",
    "write_entries",
]
