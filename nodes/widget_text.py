"""Text of widgets, as it is checked when a workflow is queued: over the API it can be anything."""

from __future__ import annotations

import re
from typing import Any

from ..vlm.quoted import told

_WHOLE = re.compile(r"[+-]?[0-9]{1,9}")  # more digits than any layer or picture has


def whole_number(text: str) -> int | None:
    """The number that a text is; None where it is none."""
    found = _WHOLE.fullmatch(text.strip())
    return int(found[0]) if found else None


def need_text(**widgets: Any) -> None:
    """Refuses what is no text; None is what comes over a wire, and is not there yet.

    Raises:
        ValueError: Names the widget.
    """
    for name, value in widgets.items():
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{name} is {told(value)}; write text in quotation marks.")
