"""The library speaks of arguments and functions, nodes of widgets: one into the other.

The library's sentences put the names of its arguments and functions into backticks: "Set `depth`
to 35." On the node that has a widget of that name the sentence is right as it is; elsewhere the
name is followed by the node that has it: "Set `depth` on VLM Encode to 35."
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from comfy_api.latest import io

_ENCODE, _SELECT, _LOADER = "VLM Encode", "Hidden Layer Select", "VLM Loader"
# Arguments of the library, as the node that has them calls them.
WIDGETS = {
    "depth": f"`depth` on {_ENCODE}",
    "edit": f"`editing_text` on {_ENCODE}",
    "max_pixels": f"`max_pixels` on {_ENCODE}",
    "min_pixels": f"`min_pixels` on {_ENCODE}",
    "padding": f"`padding` on {_ENCODE}",
    "system": f"`system` on {_ENCODE}",
    "target": f"`target` on {_ENCODE}",
    "template": f"`template` on {_ENCODE}",
    "weights": f"`weights` on {_ENCODE}",
    "layers": f"`layers` on {_SELECT}",
    "combine": f"`combine` on {_SELECT}",
    "final_norm": f"`final_norm` on {_SELECT}",
    "keep": "`keep` on Token Filter",
    "drop_first": "`drop_first` on Token Filter",
    "dtype": f"`dtype` on {_LOADER}",
    "device": f"`device` on {_LOADER}",
    "quantize": f"`quantize` on {_LOADER}",
    "pooled_output": "`pooled_from` on Connector Apply",
    "alpha": "`alpha` on Alpha Blend",
    "method": "`method` on Alpha Blend",
    "schedule": "`schedule` on Alpha Blend",
    "stats": "`reference` (a text CONDITIONING) or `stats` (VLM Reference Statistics) on Per-dim "
    "Normalize",
}
# Where the node has another input beside its own of that name.
EVERYWHERE = {
    "stats": "`reference` (a text CONDITIONING) or `stats` (VLM Reference Statistics) on Per-dim "
    "Normalize",
}
# Functions of the library, as people know the node that calls them.
NODES = {
    "add_style": "Style Delta",
    "apply_mask": "GridDot Mask",
    "blend": "Alpha Blend",
    "encode": _ENCODE,
    "filter_tokens": "Token Filter",
    "hand_over": "Time Hand-over",
    "inspect_tokens": "VLM Inspect Tokens",
    "lap_pool": "LAP Pool",
    "load": f"{_LOADER} or VLM From CLIP",
    "load_conditioning": "Load VLM Conditioning",
    "load_connector": "VLM Connector Loader and Connector Apply",
    "load_stats": "VLM Reference Statistics",
    "mask_outliers": "Per-dim Normalize",
    "measure_stats": "VLM Reference Statistics",
    "normalize": "Per-dim Normalize",
    "pool_tokens": "Token Pool",
    "rewrite": "VLM Rewrite Prompt",
    "save_conditioning": "Save VLM Conditioning",
    "save_stats": "VLM Reference Statistics",
    "select_layers": _SELECT,
    "style_delta": "Style Delta",
}
_NAME = re.compile(r"`(\w+)`(?! on [A-Z])")
_OURS = (
    ValueError,
    TypeError,
    FileNotFoundError,
    ConnectionError,
    OSError,
    torch.cuda.OutOfMemoryError,
)


def in_node_words(text: str, own: Collection[str] = ()) -> str:
    """A sentence of the library as a node says it.

    Args:
        text: The sentence.
        own: Names of the node's own inputs, which stay as they are.
    """

    def other(found: re.Match[str]) -> str:
        name = found[1]
        if name in own and name not in EVERYWHERE:
            return found[0]
        return EVERYWHERE.get(name) or WIDGETS.get(name) or NODES.get(name) or found[0]

    return _NAME.sub(other, text)


class InNodeWords(logging.Filter):
    """What the library logs, as people know the nodes."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record, and lets it pass."""
        if isinstance(record.msg, str):
            record.msg = in_node_words(record.msg)
        return True


def speaking(node: type[io.ComfyNode], tell: Callable[[str], None]) -> type[io.ComfyNode]:
    """A node whose errors speak of widgets, and stand on it; changed in place.

    Args:
        node: With an `execute` of its own.
        tell: Writes a line onto the node that is running.
    """
    execute = node.execute.__func__
    node.execute = classmethod(_speaking(execute, tell))
    return node


def _speaking(execute: Callable[..., Any], tell: Callable[[str], None]) -> Callable[..., Any]:
    @functools.wraps(execute)
    def run(cls: type[io.ComfyNode], *args: Any, **kwargs: Any) -> Any:
        try:
            return execute(cls, *args, **kwargs)
        except _OURS as error:
            own = {one.id for one in cls.define_schema().inputs}
            text = in_node_words(str(error), own)
            tell(text)
            if text == str(error) or type(error) not in _OURS:
                raise
            raise type(error)(text) from error

    return run


def with_notes(line: str, notes: list[str]) -> str:
    """A node's line, and behind it sentences of the library."""
    return ". ".join([line, *(in_node_words(note).removesuffix(".") for note in notes)])
