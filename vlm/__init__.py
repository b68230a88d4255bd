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
from .connectors.connector import load_connector
from .connectors.lap import lap_pool
from .connectors.lap_file import save_lap
from .entries import Entry, read_entries, write_entries
from .filter import filter_tokens
from .griddot import Dot, radial_mask
from .handover import hand_over
from .load import load
from .normalize import normalize
from .outliers import mask_outliers
from .prompts.templates import TEMPLATES
from .select import select_layers
from .stats import Stats, load_stats, measure_stats, save_stats
from .style import add_style, style_delta
from .targets import TARGETS
from .token_weights import apply_mask, resample_mask
from .tokens import Tokens

__all__ = [
    "TARGETS",
    "TEMPLATES",
    "Dot",
    "Entry",
    "Needs",
    "Stats",
    "Tokens",
    "add_style",
    "apply_mask",
    "blend",
    "check",
    "filter_tokens",
    "hand_over",
    "lap_pool",
    "load",
    "load_connector",
    "load_stats",
    "mask_outliers",
    "measure_stats",
    "normalize",
    "radial_mask",
    "read_entries",
    "resample_mask",
    "save_lap",
    "save_stats",
    "select_layers",
    "style_delta",
    "write_entries",
]
