"""Alpha Blend and Time Hand-over: a picture's tokens and the text's, mixed or one after another."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..vlm.conditioning.entries import pair, read_entries, write_entries
from ..vlm.conditioning.handover import hand_over
from ..vlm.conditioning.ramp import MOST_RANGES, alpha_ramp, blend_over_time
from ..vlm.tokens.alphas import SCHEDULES, parse_alphas
from ..vlm.tokens.blend import METHODS, blend, resolve_method
from ..vlm.tokens.tokens import Tokens
from .devices import conditioning_device
from .shown import shown

MIXING = ("auto", "pool", "interpolate", "truncate")
OVERRIDES = 0.5  # the research: over this alpha the words no longer count


class AlphaBlend(io.ComfyNode):
    """Mixes a picture's tokens into the text's."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCAlphaBlend",
            display_name="Alpha Blend",
            category="VLM Conditioning/tokens",
            description="Mixes a VLM's tokens into the text's conditioning. Several entries "
            "(Combine, time ranges) are paired where they overlap in time; options stay the "
            "text's.",
            search_aliases=[
                "VLM",
                "mix conditioning",
                "interpolate",
                "pool",
                "AdaIN",
                "concatenate",
            ],
            inputs=[
                io.Conditioning.Input(
                    "text", tooltip="Text CONDITIONING of the target's own encoder."
                ),
                io.Conditioning.Input(
                    "picture", tooltip="The VLM's tokens, filtered and normalised."
                ),
                io.Float.Input(
                    "alpha",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the picture's tokens, 0..1. 0 = the text alone, bit for bit "
                    "(truncate still cuts it); 0.3 is recommended; over 0.5 the picture "
                    "overrides the words.",
                ),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default="auto",
                    tooltip="auto = pool where the picture is longer than the text, else "
                    "interpolate (recommended); pool = the picture's tokens averaged over areas, "
                    "so that each of them counts; interpolate = resampled, two of the picture's "
                    "tokens read for each of the text's, the others not at all (published); "
                    "truncate = both cut to the shorter, the first tokens read; concat = the "
                    "picture's tokens, then the text's, whatever alpha is above 0; adain_* = only "
                    "the picture's statistics.",
                ),
                io.Combo.Input(
                    "schedule",
                    options=list(SCHEDULES),
                    default="constant",
                    optional=True,
                    advanced=True,
                    tooltip="How alpha grows from the first token to the last. constant = the same "
                    "for all.",
                ),
                io.Float.Input(
                    "schedule_start",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Alpha of the first token, where the schedule is not constant.",
                ),
                io.String.Input(
                    "token_alphas",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="One alpha for each token of the result: 0.1, 0.3, 0.3, …, instead of "
                    "alpha and schedule. The line on the node says how many there are. Empty = "
                    "alpha.",
                ),
                io.Combo.Input(
                    "over_time",
                    options=list(SCHEDULES),
                    default="constant",
                    optional=True,
                    tooltip="How alpha goes over the steps of sampling: from alpha to alpha_end, "
                    "in a few ranges of time. constant = alpha throughout.",
                ),
                io.Float.Input(
                    "alpha_end",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="Alpha at the end of sampling, where over_time is not constant. Below "
                    "alpha = the picture sets layout and colours early, the words finish.",
                ),
                io.Float.Input(
                    "ramp_start",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Until here, as a share of the schedule, it stays at alpha.",
                ),
                io.Float.Input(
                    "ramp_end",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="From here on it is alpha_end.",
                ),
                io.Int.Input(
                    "ranges",
                    default=4,
                    min=2,
                    max=MOST_RANGES,
                    optional=True,
                    advanced=True,
                    tooltip="Ranges of time between ramp_start and ramp_end, each with one alpha. "
                    "More than the sampler has steps do nothing.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="Goes straight into a sampler."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, token_alphas: str = "") -> bool | str:
        """Whether the list can be read, when the workflow is queued."""
        try:
            parse_alphas(token_alphas or "")
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        text: Any,
        picture: Any,
        alpha: float,
        method: str,
        schedule: str = "constant",
        schedule_start: float = 0.0,
        token_alphas: str = "",
        over_time: str = "constant",
        alpha_end: float = 0.0,
        ramp_start: float = 0.0,
        ramp_end: float = 1.0,
        ranges: int = 4,
    ) -> io.NodeOutput:
        """Blends each pair of entries, for each range of time."""
        words = read_entries(text, "text on Alpha Blend")
        pictures = read_entries(picture, "picture on Alpha Blend")
        pairs = pair(words, pictures)
        listed = parse_alphas(token_alphas)
        if listed and over_time != "constant":
            raise ValueError(
                "Alpha Blend has a list in token_alphas and a ramp in over_time, and can do one of "
                "them. Empty token_alphas, or set over_time to constant."
            )
        steps = alpha_ramp(alpha, alpha_end, over_time, ranges, ramp_start, ramp_end)

        def mix(other: Tokens, main: Tokens, share: float) -> Tokens:
            return blend(other, main, listed or share, method, schedule, True, schedule_start)

        blended = blend_over_time(pairs, steps, mix)
        first = pairs[0]
        said = f"{len(listed)} alphas" if listed else "alpha " + _over_time(steps)
        line = (
            f"{_named(method, first[1].tokens, first[0].tokens)}, {said}: "
            f"{first[1].tokens.n} picture and {first[0].tokens.n} text tokens to "
            f"{blended[0].tokens.n}"
        )
        if len(blended) > 1:
            line += f", {len(blended)} entries"
        most = max(listed or [share for share, *_ in steps])
        if most > OVERRIDES and method in MIXING:
            line += f". alpha {most:.3g}: the picture will override the words"
        return shown(line, write_entries(blended, conditioning_device()))


def _over_time(steps: list[tuple[float, float, float]]) -> str:
    """`0.5 to 25 %, 0.3 to 50 %, 0.1`: alpha, and until where."""
    parts = [f"{alpha:.3g} to {end:.0%}" for _, end, alpha in steps[:-1]]
    return ", ".join([*parts, f"{steps[-1][2]:.3g}"])


def _named(method: str, picture: Tokens, text: Tokens) -> str:
    """`auto (pool)`: what it became, where that is another one."""
    became = resolve_method(picture, text, method)
    return method if became == method else f"{method} ({became})"


class TimeHandover(io.ComfyNode):
    """One conditioning for the start of the schedule, another for the rest."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCTimeHandover",
            display_name="Time Hand-over",
            category="VLM Conditioning/tokens",
            description="The picture's tokens for the first part of sampling, the text for the "
            "rest: layout and content of the picture, details of the words (UniFusion 5.2).",
            search_aliases=["VLM", "timestep range", "prompt switching", "handover"],
            inputs=[
                io.Conditioning.Input("first", tooltip="For the first part: the picture's."),
                io.Conditioning.Input("second", tooltip="For the rest: the text's."),
                io.Float.Input(
                    "percent",
                    default=0.2,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Where the second takes over, as a share of the schedule, 0..1. "
                    "0 = only the second, 1 = only the first. 0.1 to 0.2 are published.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="Both, each in its part of sampling."
                )
            ],
        )

    @classmethod
    def execute(cls, first: Any, second: Any, percent: float) -> io.NodeOutput:
        """Gives both their ranges of the schedule."""
        early = read_entries(first, "first on Time Hand-over")
        late = read_entries(second, "second on Time Hand-over")
        entries = hand_over(early, late, percent)
        line = f"first until {percent:.0%} of the schedule, then second; {len(entries)} entries"
        return shown(line, write_entries(entries, conditioning_device()))


NODES = [AlphaBlend, TimeHandover]
