"""GridDot Mask: which of a picture's tokens count, by dots on it or a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..vlm.conditioning.entries import map_tokens, read_entries, write_entries
from ..vlm.running.hidden_states import HiddenStates
from ..vlm.tokens.griddot import COMBINE, radial_mask
from ..vlm.tokens.shape_text import parse_dots
from ..vlm.tokens.shapes import Shape, count_words
from ..vlm.tokens.token_weights import apply_mask, enlarge_mask, image_grid, resample_mask
from .devices import conditioning_device
from .shown import shown
from .sockets import tokens_template

PREVIEW_SIDE = 1024  # pixels; the panel is smaller


class GridDotMask(io.ComfyNode):
    """Weighs the tokens of one picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        template = tokens_template()
        return io.Schema(
            node_id="VLMCGridDotMask",
            display_name="GridDot Mask",
            category="VLM Conditioning/tokens",
            description="Says which parts of a picture count: dots placed on it in the panel, or "
            "a mask, weigh its tokens. Takes hidden states or CONDITIONING and gives back the same "
            "kind.",
            search_aliases=["VLM", "attention", "region", "focus", "dots", "Qwen2VL-Flux"],
            inputs=[
                io.MatchType.Input(
                    "tokens",
                    template=template,
                    tooltip="Hidden states, or CONDITIONING that came from them, with the "
                    "picture's tokens still in.",
                ),
                io.String.Input(
                    "dots",
                    default="",
                    socketless=True,
                    extra_dict={"widgetType": "VLMC_GRIDDOT"},
                    tooltip="The dots as JSON; the panel writes it. Each has x and y (0..1 of the "
                    "picture), radius (1 = the shorter side) and strength (-1..1). Empty = every "
                    "token counts in full.",
                ),
                *_settings(),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The picture, for the panel to show; the tokens do not change with it.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White counts, black does not; any size. Multiplies the dots; alone it "
                    "takes their place. A batch of them = one per frame of a video.",
                ),
            ],
            outputs=[
                io.MatchType.Output(
                    template=template, display_name="tokens", tooltip="Of the kind that came in."
                ),
                io.Mask.Output(
                    display_name="mask",
                    tooltip="The weights, 0..1: at the size of `image` where that is connected, "
                    "otherwise one pixel per token.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, dots: str = "") -> bool | str:
        """Whether the dots can be read, when the workflow is queued."""
        try:
            parse_dots(dots or "")
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        tokens: Any,
        dots: str,
        image_number: int = 0,
        combine: str = "max",
        floor: float = 0.0,
        image: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        """Weighs every entry; the mask is that of the first."""
        placed = parse_dots(dots)
        used: list[torch.Tensor] = []

        def weigh(each: Any) -> Any:
            _, rows, cols = image_grid(each.token_map, image_number)
            used.append(_weights(rows, cols, placed, combine, floor, mask))
            return apply_mask(each, used[-1], image_number)

        if isinstance(tokens, HiddenStates):
            weighed, token_map = weigh(tokens), tokens.token_map
        else:
            entries = read_entries(
                tokens, "tokens on GridDot Mask", "hidden states or CONDITIONING"
            )
            token_map = entries[0].tokens.token_map
            weighed = write_entries(map_tokens(entries, weigh), conditioning_device())
        first = used[0].reshape(-1, *used[0].shape[-2:])
        panel = _panel(token_map, image_number, image, mask)
        if image is not None:
            first = enlarge_mask(first, *image.shape[1:3])
        line = _line(image_number, used, placed, mask)
        return shown(line, weighed, first, griddot=[panel])


def _settings() -> list[io.Input]:
    return [
        io.Int.Input(
            "image_number",
            default=0,
            min=0,
            max=999,
            optional=True,
            tooltip="Which picture, by number from 0, as VLM Encode numbers them. 0 = the first; "
            "Empty `dots` change nothing.",
        ),
        io.Combo.Input(
            "combine",
            options=list(COMBINE),
            default=COMBINE[0],
            optional=True,
            tooltip="Where dots overlap: max = the strongest counts; sum = they add up; screen = "
            "they add up and never exceed 1. One dot: all the same.",
        ),
        io.Float.Input(
            "floor",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            optional=True,
            tooltip="Weight of what no dot reaches, 0..1. 0 = gone; 1 = everything counts in full, "
            "only negative dots take away.",
        ),
    ]


def _weights(
    rows: int,
    cols: int,
    dots: Sequence[Shape],
    combine: str,
    floor: float,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    if not dots and mask is None:
        return torch.ones(rows, cols)
    fitted = None if mask is None else resample_mask(mask, rows, cols)
    return radial_mask(rows, cols, dots, combine, floor, fitted)


def _panel(
    token_map: dict, number: int, image: torch.Tensor | None, mask: torch.Tensor | None
) -> dict[str, Any]:
    """What the panel shows once the node ran: the grid, the mask on it, the picture."""
    frames, rows, cols = image_grid(token_map, number)
    panel = {"image": number, "frames": frames, "rows": rows, "cols": cols}
    if mask is not None:
        fitted = resample_mask(mask, rows, cols).reshape(-1, rows, cols)
        panel["mask"] = [round(value, 3) for value in fitted[0].flatten().tolist()]
    if image is not None:
        step = -(-max(image.shape[1:3]) // PREVIEW_SIDE)
        panel["picture"] = dict(ui.PreviewImage(image[:1, ::step, ::step]).values[0])
    return panel


def _line(
    number: int, used: list[torch.Tensor], dots: Sequence[Shape], mask: torch.Tensor | None
) -> str:
    weights = used[0]
    rows, cols = weights.shape[-2:]
    low, mean, high = (float(x) for x in (weights.min(), weights.mean(), weights.max()))
    line = f"image {number}, {rows} x {cols} tokens, {count_words(dots)}"
    line += "" if mask is None else " and a mask"
    line += f", weights {low:.2g} to {high:.2g}, mean {mean:.2g}"
    return line if len(used) == 1 else f"{line}, {len(used)} entries"


NODES = [GridDotMask]
