"""The line of text that a node shows after it ran."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from comfy_execution.utils import get_executing_context


def shown(line: str, *outputs: Any, **more: list[Any]) -> io.NodeOutput:
    """A node's outputs, with a line that says what it did.

    The line goes into the history, where API users read it, and onto the node; so does `more`,
    for a node's own panel.
    """
    from server import PromptServer

    context = get_executing_context()
    server = getattr(PromptServer, "instance", None)
    if context is not None and server is not None:
        server.send_progress_text(line, context.node_id)
    return io.NodeOutput(*outputs, ui={**ui.PreviewText(line).as_dict(), **more})
