"""VLM Inspect Tokens: what a conditioning holds, as a picture and as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image

from ..vlm.conditioning.entries import read_entries
from ..vlm.quoted import told
from ..vlm.report.inspection import Inspection, inspect_tokens
from ..vlm.running.hidden_states import HiddenStates as HeldStates
from ..vlm.tokens.stats import Stats as Reference
from .devices import conditioning_device
from .prompting import connected, has_odd_images, images_input, need_image
from .shown import shown
from .sockets import Connector, HiddenStates, ManagedConnector, Stats, need
from .widget_text import need_text, whole_number

AUTO = "auto"
MOST_ENTRIES = 8


class InspectTokens(io.ComfyNode):
    """Draws what tokens are and how they look."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCInspect",
            display_name="VLM Inspect Tokens",
            category="VLM Conditioning/tokens",
            description="A picture and a text of what hidden states or a CONDITIONING hold: tokens "
            "by role, over the pictures, their size, sink tokens, layer by layer, what each "
            "picture adds, against reference statistics. Each panel says what good looks like. "
            "The VLM never runs for it.",
            search_aliases=["VLM", "debug", "visualize tokens", "norms", "report", "token map"],
            accept_all_inputs=True,  # see growing.py
            inputs=[
                io.MultiType.Input(
                    "tokens",
                    types=[HiddenStates, io.Conditioning],
                    tooltip="Hidden states, or CONDITIONING from a gate or of any text encoder.",
                ),
                images_input(),
                io.Image.Input(
                    "video",
                    optional=True,
                    tooltip="Frames of the video that VLM Encode got.",
                ),
                Stats.Input(
                    "stats",
                    optional=True,
                    tooltip="From VLM Reference Statistics: dimensions are compared with them.",
                ),
                Connector.Input(
                    "connector",
                    optional=True,
                    tooltip="From VLM Connector Loader: what it takes of each layer is shown.",
                ),
                io.String.Input(
                    "layer",
                    default=AUTO,
                    optional=True,
                    tooltip="Of hidden states: the layer to show, such as -8 or 20, among those "
                    "that ran. auto = the one the target reads, else the deepest.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="report", tooltip="For Preview Image or Save Image."),
                io.String.Output(display_name="text", tooltip="The same facts as text."),
            ],
            is_output_node=True,  # a workflow may do nothing but look
        )

    @classmethod
    def validate_inputs(cls, layer: str = AUTO, images: Any = None) -> bool | str:
        """Whether `layer` and the pictures can be read, when the workflow is queued."""
        if odd := has_odd_images(images):
            return odd
        try:
            need_text(layer=layer)
            _layer(AUTO if layer is None else layer)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        tokens: Any,
        images: dict | None = None,
        video: Any = None,
        stats: Any = None,
        connector: Any = None,
        layer: str = AUTO,
    ) -> io.NodeOutput:
        """Looks at every entry, and draws."""
        if stats is not None:
            need(stats, Reference, "stats on VLM Inspect Tokens")
        if connector is not None:
            need(connector, ManagedConnector, "connector on VLM Inspect Tokens")
        pictures = connected(images) or None
        video = None if video is None else need_image(video, "video")
        trained = None if connector is None else connector.connector
        reports = [
            inspect_tokens(
                each,
                pictures,
                video,
                layer=_layer(layer) if isinstance(each, HeldStates) else None,
                stats=stats,
                connector=trained,
                title=title,
                notes=notes,
            )
            for each, title, notes in _entries(tokens)
        ]
        line = reports[0].title + (f", {len(reports)} entries" if len(reports) > 1 else "")
        text = "\n\n".join(report.text for report in reports)
        return shown(line, _batch(reports), text)


def _layer(text: str) -> int | None:
    """The layer index that the widget names; None for auto.

    Raises:
        ValueError: Neither.
    """
    if text.strip() == AUTO:
        return None
    layer = whole_number(text)
    if layer is None:
        raise ValueError(f"layer is {told(text)}; write auto or a layer index such as -8 or 20.")
    return layer


def _entries(tokens: Any) -> list[tuple[Any, str, list[str]]]:
    """What there is to look at, each with a heading and notes: entries, or versions of weights."""
    if isinstance(tokens, HeldStates):
        parts, names = tokens.keyframes, "version of the weights"
        spans = [each.options for each in parts]
    else:
        entries = read_entries(
            tokens, "tokens on VLM Inspect Tokens", "hidden states or CONDITIONING"
        )
        parts, names = [entry.tokens for entry in entries], "entry"
        spans = [entry.options for entry in entries]
    more = len(parts) - MOST_ENTRIES
    left = [f"{more} more of these are not shown."] if more > 0 else []
    if len(parts) == 1:
        return [(parts[0], "", [])]
    return [
        (part, f"{names} {at + 1} of {len(parts)}{_time(span)}", left)
        for at, (part, span) in enumerate(zip(parts[:MOST_ENTRIES], spans, strict=False))
    ]


def _time(options: dict[str, Any]) -> str:
    """` (0 % to 50 % of the steps)`, where an entry has a time of its own."""
    if not {"start_percent", "end_percent"} & options.keys():
        return ""
    start, end = options.get("start_percent", 0.0), options.get("end_percent", 1.0)
    return f" ({start:.0%} to {end:.0%} of the steps)"


def _batch(reports: list[Inspection]) -> torch.Tensor:
    """The pictures as IMAGE, the shorter ones on white as high as the highest."""
    pictures = [report.picture() for report in reports]
    size = max(each.width for each in pictures), max(each.height for each in pictures)
    pages = []
    for picture in pictures:
        page = Image.new("RGB", size, "white")
        page.paste(picture)
        pages.append(np.asarray(page))
    values = torch.from_numpy(np.stack(pages))
    return values.to(conditioning_device(), torch.float32).div_(255)


NODES = [InspectTokens]
