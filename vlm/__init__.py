"""VLM conditioning: what a vision-language model understands, as conditioning for diffusion models.

The library has no ComfyUI in it. Importing it is cheap: transformers and matplotlib load on first
use.

    import vlm

    v = vlm.load("tiny")
    h = v.encode("a red house", images=[picture], target="z-image")
    t = vlm.select_layers(h)
    t = vlm.filter_tokens(t, keep="text")
"""

from .conditioning.check import Needs, check
from .conditioning.entries import Entry, read_entries, write_entries
from .conditioning.file import load_conditioning, save_conditioning
from .conditioning.handover import hand_over
from .conditioning.ramp import alpha_ramp, blend_over_time
from .connectors.lap import lap_pool
from .connectors.lap_file import save_lap
from .connectors.load import load_connector
from .load import load
from .prompts.conversation import Conversation
from .prompts.prompt_syntax import PromptSyntax
from .prompts.templates import TEMPLATES
from .report.inspection import inspect_tokens
from .targets import TARGETS
from .tokens.blend import blend
from .tokens.filter import filter_tokens
from .tokens.griddot import radial_mask
from .tokens.normalize import normalize
from .tokens.outliers import mask_outliers
from .tokens.pool import pool_tokens
from .tokens.select import select_layers
from .tokens.shapes import Box, Dot, Stroke
from .tokens.stats import Stats, load_stats, measure_stats, save_stats
from .tokens.style import add_style, style_delta
from .tokens.token_weights import apply_mask, resample_mask
from .tokens.tokens import Tokens

__version__: str  # read when it is asked for: see `__getattr__`

__all__ = [
    "TARGETS",
    "TEMPLATES",
    "Box",
    "Conversation",
    "Dot",
    "Entry",
    "Needs",
    "PromptSyntax",
    "Stats",
    "Stroke",
    "Tokens",
    "add_style",
    "alpha_ramp",
    "apply_mask",
    "blend",
    "blend_over_time",
    "check",
    "filter_tokens",
    "hand_over",
    "inspect_tokens",
    "lap_pool",
    "load",
    "load_conditioning",
    "load_connector",
    "load_stats",
    "mask_outliers",
    "measure_stats",
    "normalize",
    "pool_tokens",
    "radial_mask",
    "read_entries",
    "resample_mask",
    "save_conditioning",
    "save_lap",
    "save_stats",
    "select_layers",
    "style_delta",
    "write_entries",
]


def __getattr__(name: str) -> str:
    """`vlm.__version__`, from its one source."""
    if name == "__version__":
        from .version import find_version

        return find_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
