"""Style Delta: the difference that a style makes, added to a text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..vlm.conditioning.entries import pair, read_entries, write_entries
from ..vlm.tokens.style import add_style, style_delta
from .devices import conditioning_device
from .shown import shown


class StyleDelta(io.ComfyNode):
    """Adds (styled - neutral) to a text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCStyleDelta",
            display_name="Style Delta",
            category="VLM Conditioning/tokens",
            description="The difference between a styled picture and a neutral one, added to a "
            "text's conditioning.",
            search_aliases=["VLM", "style transfer", "style vector", "difference"],
            inputs=[
                io.Conditioning.Input("text", tooltip="The text that takes the style."),
                io.Conditioning.Input("styled", tooltip="Tokens of a picture in the style."),
                io.Conditioning.Input(
                    "neutral", tooltip="Tokens of the same subject, or any picture, without it."
                ),
                io.Float.Input(
                    "alpha",
                    default=0.3,
                    min=-2.0,
                    max=2.0,
                    step=0.01,
                    tooltip="How much of the style. 0 = the text alone, bit for bit; "
                    "below 0 the style is taken away.",
                ),
                io.Boolean.Input(
                    "unit_std",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Divides the difference by its std first.",
                ),
                io.Boolean.Input(
                    "match_std",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Scales the difference to the std of the text before adding it.",
                ),
                io.Boolean.Input(
                    "published",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="match_std: on = the std of the whole text, as the research has it; "
                    "its sink token makes the difference about eight times as loud. off = the "
                    "std without sink tokens (recommended).",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="The text with the style. Goes into a sampler.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        text: Any,
        styled: Any,
        neutral: Any,
        alpha: float,
        unit_std: bool = True,
        match_std: bool = True,
        published: bool = False,
    ) -> io.NodeOutput:
        """Adds the difference to every entry of the text."""
        words = read_entries(text, "text on Style Delta")
        sides = pair(
            read_entries(styled, "styled on Style Delta"),
            read_entries(neutral, "neutral on Style Delta"),
        )
        deltas = [
            replace(one, tokens=style_delta(one.tokens, other.tokens, unit_std))
            for one, other in sides
        ]
        added = [
            replace(main, tokens=add_style(main.tokens, delta.tokens, alpha, match_std, published))
            for main, delta in pair(words, deltas)
        ]
        line = f"alpha {alpha:g} of a difference over {deltas[0].tokens.n} tokens"
        return shown(line, write_entries(added, conditioning_device()))


NODES = [StyleDelta]
