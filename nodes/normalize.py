"""Per-dim Normalize and VLM Reference Statistics: towards what the target knows."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..vlm.conditioning.entries import map_tokens, read_entries, write_entries
from ..vlm.tokens.normalize import MODES, normalize, resolve_mode
from ..vlm.tokens.outliers import OUTLIER_MODES, mask_outliers, outlier_dims
from ..vlm.tokens.stats import Stats as Reference
from ..vlm.tokens.stats import load_stats, measure_stats, save_stats
from ..vlm.tokens.tokens import Tokens
from . import folders
from .devices import conditioning_device
from .shown import shown
from .sockets import Stats, need

OFF = "off"
MEASURE = "measure the inputs"


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
    ) -> io.NodeOutput:
        """Normalises every entry, then masks outliers."""
        entries = read_entries(conditioning, "conditioning on Per-dim Normalize")
        if stats is not None:
            need(stats, Reference, "stats on Per-dim Normalize")
        elif reference is not None:
            stats = measure_stats(_tokens(reference, "reference on Per-dim Normalize"))

        def change(tokens: Tokens) -> Tokens:
            changed = normalize(
                tokens, stats, mode, clip_sigma, weight, target_std or None, strength
            )
            if outliers == OFF or strength == 0:
                return changed
            return mask_outliers(changed, stats, outliers, outlier_threshold)

        done = map_tokens(entries, change)
        first = entries[0].tokens
        line = f"{resolve_mode(first, mode)}, std {_std(first):.3g} to {_std(done[0].tokens):.3g}"
        if stats is not None:
            line += f", reference {stats.global_std:.3g}"
        if outliers != OFF:
            found = outlier_dims(first, stats, outlier_threshold)
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


def _tokens(conditioning: Any, socket: str) -> list[Tokens]:
    return [entry.tokens for entry in read_entries(conditioning, socket)]


def _std(tokens: Tokens) -> float:
    return float(tokens.states.float().std())


class ReferenceStats(io.ComfyNode):
    """Measures, saves and loads reference statistics."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        conditionings = io.Autogrow.TemplatePrefix(
            io.Conditioning.Input(
                "conditioning", tooltip="Text of the target's own encoder. More = steadier."
            ),
            prefix="conditioning",
            min=0,
            max=50,
        )
        return io.Schema(
            node_id="VLMCReferenceStats",
            display_name="VLM Reference Statistics",
            category="VLM Conditioning/tokens",
            description="Mean and std per dimension of a target's own text encoder, for Per-dim "
            "Normalize: measured from CONDITIONING, saved, and loaded again.",
            search_aliases=["VLM", "statistics", "mean std", "reference"],
            inputs=[
                io.Autogrow.Input("conditionings", template=conditionings, optional=True),
                io.Combo.Input(
                    "source",
                    options=[MEASURE, *folders.stats_names()],
                    default=MEASURE,
                    tooltip="Measure what is connected, or a file of models/vlm_stats.",
                ),
                io.String.Input(
                    "save_as",
                    default="",
                    optional=True,
                    tooltip="Name under which the measured statistics are saved in "
                    "models/vlm_stats. Empty = not saved.",
                ),
                io.String.Input(
                    "encoder",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Written into the file: the model the text was encoded with. Empty = "
                    "nothing.",
                ),
                io.String.Input(
                    "layer",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Written into the file: the layer, such as -2. Empty = nothing.",
                ),
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip="Written into the file: the prompts, one a line. Empty = nothing.",
                ),
            ],
            outputs=[Stats.Output(display_name="stats", tooltip="For Per-dim Normalize.")],
            is_output_node=True,  # a workflow may do nothing but measure and save
        )

    @classmethod
    def fingerprint_inputs(cls, source: str, **others: Any) -> tuple | None:
        """Changes when the chosen file does, so that a newly saved one is read."""
        return None if source == MEASURE else folders.stats_fingerprint(source)

    @classmethod
    def validate_inputs(cls, save_as: str = "", conditionings: Any = None) -> bool | str:
        """Whether the name can be a file's, when the workflow is queued."""
        if save_as:
            try:
                folders.new_stats_file(save_as)
            except ValueError as error:
                return str(error)
        return True

    @classmethod
    def execute(
        cls,
        source: str,
        conditionings: dict | None = None,
        save_as: str = "",
        encoder: str = "",
        layer: str = "",
        prompts: str = "",
    ) -> io.NodeOutput:
        """Measures or loads; saves where a name was given."""
        wired = [each for each in (conditionings or {}).values() if each is not None]
        if source != MEASURE:
            stats = load_stats(folders.stats_file(source))
            return shown(_describe(stats, f"loaded {source}"), stats)
        if not wired:
            raise ValueError(
                "Nothing to measure: no conditioning is connected to VLM Reference Statistics. "
                "Connect text CONDITIONING of the target's own encoder, or choose a saved file."
            )
        tokens = [each for one in wired for each in _tokens(one, "VLM Reference Statistics")]
        stats = measure_stats(
            tokens, encoder or None, layer or None, prompts.split("\n") if prompts else None
        )
        line = "measured"
        if save_as:
            file = folders.new_stats_file(save_as)
            file.parent.mkdir(parents=True, exist_ok=True)
            save_stats(stats, file)
            line = f"saved as {file.name}"
        return shown(_describe(stats, line), stats)


def _describe(stats: Any, what: str) -> str:
    tokens = f", {stats.count} tokens" if stats.count else ""
    return f"{what}{tokens}, {stats.width} wide, std {stats.global_std:.3g}"


NODES = [PerDimNormalize, ReferenceStats]
