"""The line of text that a node shows after it ran."""

from __future__ import annotations

import re
from typing import Any

from comfy_api.latest import io, ui
from comfy_execution.utils import get_executing_context

_TAG = re.compile(r"<(?=[a-zA-Z/!?])")  # where HTML begins a tag, and nowhere else
# Control characters, and marks that turn the direction of the text behind them.
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def shown(line: str, *outputs: Any, **more: list[Any]) -> io.NodeOutput:
    """A node's outputs, with a line that says what it did.

    The line goes into the history, where API users read it, and onto the node; so does `more`,
    for a node's own panel.
    """
    tell(line)
    return io.NodeOutput(*outputs, ui={**ui.PreviewText(as_letters(line)).as_dict(), **more})


def tell(line: str) -> None:
    """Writes a line onto the node that is running, where a page is open."""
    from server import PromptServer

    context = get_executing_context()
    server = getattr(PromptServer, "instance", None)
    if context is not None and server is not None:
        server.send_progress_text(as_letters(line), context.node_id)


def as_letters(text: str) -> str:
    """Text in which no tag of HTML begins: `<b>` becomes `‹b>`.

    Names and notes come with files of others, and the page's newer renderer reads the line as HTML
    while other readers show it as it is, so `&lt;` would be wrong in one of them.
    """
    return _TAG.sub("‹", _UNSEEN.sub("", text))
