"""Token Pool: each picture on a smaller grid."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..vlm.conditioning.entries import map_tokens, read_entries, write_entries
from ..vlm.running.hidden_states import HiddenStates
from ..vlm.tokens.pool import pool_tokens
from .devices import conditioning_device
from .shown import shown
from .sockets import tokens_template

LARGEST = 16384


class TokenPool(io.ComfyNode):
    """Averages the tokens of each picture over the cells of a smaller grid."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        template = tokens_template()
        return io.Schema(
            node_id="VLMCTokenPool",
            display_name="Token Pool",
            category="VLM Conditioning/tokens",
            description="Averages a picture's tokens over the cells of a smaller grid, so that a "
            "picture takes fewer tokens and each of them still counts. Takes hidden states or "
            "CONDITIONING and gives back the same kind.",
            search_aliases=["VLM", "pool tokens", "downsample", "fewer tokens", "Redux strength"],
            inputs=[
                io.MatchType.Input(
                    "tokens",
                    template=template,
                    tooltip="Hidden states, or CONDITIONING that came from them, with the "
                    "picture's tokens still in.",
                ),
                io.Int.Input(
                    "size",
                    default=64,
                    min=1,
                    max=LARGEST,
                    tooltip="At most so many picture tokens altogether, shared by the pictures in "
                    "proportion to their size. 256 keeps where things are, 64 roughly, 9 the "
                    "composition, 1 the mood. As many as there are, or more = unchanged.",
                ),
                io.Int.Input(
                    "rows",
                    default=0,
                    min=0,
                    max=1024,
                    optional=True,
                    advanced=True,
                    tooltip="With cols, instead of size: the grid of each picture. 0 = by size.",
                ),
                io.Int.Input(
                    "cols",
                    default=0,
                    min=0,
                    max=1024,
                    optional=True,
                    advanced=True,
                    tooltip="With rows, instead of size: the grid of each picture. 0 = by size.",
                ),
            ],
            outputs=[
                io.MatchType.Output(
                    template=template, display_name="tokens", tooltip="Of the kind that came in."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, rows: int = 0, cols: int = 0) -> bool | str:
        """Whether rows and cols go together, when the workflow is queued."""
        if None not in (rows, cols) and bool(rows) != bool(cols):
            return (
                f"rows is {rows} and cols is {cols} on Token Pool. Set both for a grid of your "
                "own, or both to 0 for one by size."
            )
        return True

    @classmethod
    def execute(cls, tokens: Any, size: int, rows: int = 0, cols: int = 0) -> io.NodeOutput:
        """Pools every entry."""
        options = {"rows": rows, "cols": cols} if rows else {"tokens": size}
        if isinstance(tokens, HiddenStates):
            pooled = pool_tokens(tokens, **options)
            return shown(_line(tokens.token_map, pooled.token_map), pooled)
        takes = "hidden states or CONDITIONING"
        entries = read_entries(tokens, "tokens on Token Pool", takes)
        done = map_tokens(entries, lambda each: pool_tokens(each, **options))
        line = _line(entries[0].tokens.token_map, done[0].tokens.token_map)
        if len(entries) > 1:
            line += f", {len(entries)} entries"
        return shown(line, write_entries(done, conditioning_device()))


def _line(before: dict, after: dict) -> str:
    """`576 picture tokens to 64, norms restored: image 0 24 x 24 to 8 x 8`."""
    had, have = (each["role"].count("image") for each in (before, after))
    if had == have:
        return f"{had} picture tokens, no more than asked for: unchanged"
    old, new = (
        {grid["image"]: f"{grid['rows']} x {grid['cols']}" for grid in each["grids"]}
        for each in (before, after)
    )
    grids = ", ".join(f"image {i} {old[i]} to {new[i]}" for i in new)
    return f"{had} picture tokens to {have}, norms restored: {grids}"


NODES = [TokenPool]
