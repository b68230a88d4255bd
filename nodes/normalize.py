"""Per-dim Normalize: towards what the target knows."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..vlm.conditioning.entries import map_tokens, read_entries, write_entries
from ..vlm.tokens.normalize import MODES, normalize, resolve_mode
from ..vlm.tokens.outliers import OUTLIER_MODES, mask_outliers, outlier_dims
from ..vlm.tokens.stats import Stats as Reference
from ..vlm.tokens.stats import measure_stats
from ..vlm.tokens.tokens import Tokens
from .devices import conditioning_device
from .shown import shown
from .sockets import Stats, need

OFF = "off"


class PerDimNormalize(io.ComfyNode):
    """Moves the statistics of tokens to a reference's."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCPerDimNormalize",
            display_name="Per-dim Normalize",
            category="VLM Conditioning/tokens",
            description="Brings a VLM's tokens to the statistics of the target's own text "
            "encoder, so that the diffusion model knows them.",
            search_aliases=["VLM", "normalize", "scale to text", "statistics", "outliers"],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="The VLM's tokens."),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="auto",
                    tooltip="auto = per_dim where there are image tokens, global for text only. "
                    "global = one factor for all; per_dim = mean and std of every dimension; "
                    "hybrid = a mix of both; robust = one factor that massive dimensions and sink "
                    "tokens do not disturb.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the normalised tokens, 0..1. 0 = unchanged.",
                ),
                io.Conditioning.Input(
                    "reference",
                    optional=True,
                    tooltip="Text CONDITIONING of the target's own encoder, to measure.",
                ),
                Stats.Input(
                    "stats",
                    optional=True,
                    tooltip="From VLM Reference Statistics; used instead of `reference`.",
                ),
                *_fine_settings(),
                _published(),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="The same tokens, normalised. For Alpha Blend.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        conditioning: Any,
        mode: str,
        strength: float,
        reference: Any = None,
        stats: Any = None,
        clip_sigma: float = 3.0,
        weight: float = 0.5,
        target_std: float = 0.0,
        outliers: str = OFF,
        outlier_threshold: float = 10.0,
        published: bool = False,
    ) -> io.NodeOutput:
        """Normalises every entry, then masks outliers."""
        entries = read_entries(conditioning, "conditioning on Per-dim Normalize")
        if stats is not None:
            need(stats, Reference, "stats on Per-dim Normalize")
        elif reference is not None:
            words = read_entries(reference, "reference on Per-dim Normalize")
            stats = measure_stats(entry.tokens for entry in words)

        def change(tokens: Tokens) -> Tokens:
            changed = normalize(
                tokens, stats, mode, clip_sigma, weight, target_std or None, strength, published
            )
            if outliers == OFF or strength == 0:
                return changed
            return mask_outliers(changed, stats, outliers, outlier_threshold, published)

        done = map_tokens(entries, change)
        first = entries[0].tokens
        line = f"{resolve_mode(first, mode)}, std {_std(first):.3g} to {_std(done[0].tokens):.3g}"
        if stats is not None:
            line += f", reference {_reference(stats, mode, published)}"
        if outliers != OFF:
            found = outlier_dims(first, stats, outlier_threshold, published)
            line += f", {len(found)} outlier dimensions before"
        return shown(line, write_entries(done, conditioning_device()))


def _fine_settings() -> list[io.Input]:
    return [
        io.Float.Input(
            "clip_sigma",
            default=3.0,
            min=0.0,
            max=100.0,
            step=0.1,
            optional=True,
            advanced=True,
            tooltip="per_dim and hybrid: values further than so many std from the mean are cut. "
            "0 = no cut.",
        ),
        io.Float.Input(
            "weight",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.01,
            optional=True,
            advanced=True,
            tooltip="hybrid: share of per_dim, 0..1; the rest is global.",
        ),
        io.Float.Input(
            "target_std",
            default=0.0,
            min=0.0,
            max=1000.0,
            step=0.1,
            optional=True,
            advanced=True,
            tooltip="global and hybrid: std of all values to scale to (Z-Image: 61). "
            "0 = the reference's.",
        ),
        io.Combo.Input(
            "outliers",
            options=[OFF, *OUTLIER_MODES],
            default=OFF,
            optional=True,
            advanced=True,
            tooltip="What happens to dimensions whose std is over the threshold: zero, clamp or "
            "scale them. off = nothing.",
        ),
        io.Float.Input(
            "outlier_threshold",
            default=10.0,
            min=1.0,
            max=1000.0,
            step=0.5,
            optional=True,
            advanced=True,
            tooltip="How many times the reference's std makes a dimension an outlier.",
        ),
    ]


def _published() -> io.Input:
    return io.Boolean.Input(
        "published",
        default=False,
        optional=True,
        advanced=True,
        tooltip="per_dim, hybrid and auto: on = statistics with the sink tokens in, as the "
        "research has them; they put nearly all of an image token's energy into three "
        "dimensions. off = without sink tokens (recommended).",
    )


def _reference(stats: Reference, mode: str, published: bool) -> str:
    """`7.02 without 3 sink tokens`: the std of all values that counts."""
    if published or mode == "global":
        return f"{stats.global_std:.3g}, sink tokens included"
    left_out = "massive dimensions" if stats.sinks is None else f"{stats.sinks} sink tokens"
    if stats.sinks == 1:
        left_out = "1 sink token"
    return f"{stats.ordinary_std_of_all():.3g} without {left_out}"


def _std(tokens: Tokens) -> float:
    return float(tokens.states.float().std())


NODES = [PerDimNormalize]
