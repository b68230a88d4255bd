"""VLM Reference Statistics: measures, saves and loads what Per-dim Normalize compares with."""

from __future__ import annotations

import functools
from typing import Any

from comfy_api.latest import io

from ..vlm.conditioning.entries import read_entries
from ..vlm.logger import LOG
from ..vlm.tokens.stats import Stats as Reference
from ..vlm.tokens.stats import few_tokens, load_stats, measure_stats, save_stats
from . import folders
from .growing import has_other_shape, parts_of
from .shown import shown
from .sockets import Stats
from .widget_text import need_text

MEASURE = "measure the inputs"
CONDITIONINGS, CONDITIONING = "conditionings", "conditioning"
_MOST_NAMED = 8  # massive dimensions in a line


@functools.cache
def _each_conditioning() -> io.Autogrow.TemplatePrefix:
    """Made once, as the pictures of other nodes are."""
    return io.Autogrow.TemplatePrefix(
        io.Conditioning.Input(
            CONDITIONING,
            tooltip="Text of the target's own encoder; 256 tokens or more are steady.",
        ),
        prefix=CONDITIONING,
        min=0,
        max=50,
    )


class ReferenceStats(io.ComfyNode):
    """Measures, saves and loads reference statistics."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCReferenceStats",
            display_name="VLM Reference Statistics",
            category="VLM Conditioning/tokens",
            description="Mean and std per dimension of a target's own text encoder, for Per-dim "
            "Normalize: measured from CONDITIONING, saved, and loaded again. Sink tokens are "
            "found, and everything is kept with and without them.",
            search_aliases=["VLM", "statistics", "mean std", "reference"],
            accept_all_inputs=True,  # see growing.py
            inputs=[
                io.Autogrow.Input(CONDITIONINGS, template=_each_conditioning(), optional=True),
                io.Combo.Input(
                    "source",
                    options=[MEASURE, *folders.stats_names()],
                    default=MEASURE,
                    tooltip="Measure what is connected, or a file of models/vlm_stats: what this "
                    "node saved, or the research's .npz.",
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
        """Whether the name can be a file's and what is connected be read, when it is queued."""
        if odd := has_other_shape(CONDITIONINGS, CONDITIONING, conditionings):
            return odd
        if save_as:
            try:
                need_text(save_as=save_as)
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
        wired = [each for _, each in parts_of(CONDITIONINGS, CONDITIONING, conditionings)]
        if source != MEASURE:
            stats = load_stats(folders.stats_file(source))
            return shown(_describe(stats, f"loaded {source}"), stats)
        if not wired:
            raise ValueError(
                "Nothing to measure: no conditioning is connected to VLM Reference Statistics. "
                "Connect text CONDITIONING of the target's own encoder, or choose a saved file."
            )
        entries = [each for one in wired for each in read_entries(one, "VLM Reference Statistics")]
        tokens = [entry.tokens for entry in entries]
        stats = measure_stats(
            tokens, encoder or None, layer or None, prompts.split("\n") if prompts else None
        )
        line = "measured"
        if save_as:
            file = folders.new_stats_file(save_as)
            file.parent.mkdir(parents=True, exist_ok=True)
            save_stats(stats, file)
            line = f"saved as {file.name}"
        few = few_tokens(stats)
        if few is not None:
            LOG.warning("VLM Reference Statistics: %s.", few)
        return shown(_describe(stats, line), stats)


def _describe(stats: Reference, what: str) -> str:
    """The line, with its evidence: tokens, sinks, both spreads, the source, whether steady."""
    line = what + (f", {stats.count} tokens" if stats.count else "")
    if stats.prompts:
        line += f" of {len(stats.prompts)} prompts"
    if stats.sinks is not None:
        line += f", {stats.sinks} of them sinks"
    line += f", {stats.width} wide, std {stats.global_std:.3g}, of ordinary tokens "
    line += f"{stats.ordinary_std_of_all():.3g}"
    if stats.massive:
        line += f", massive dimensions {', '.join(map(str, stats.massive[:_MOST_NAMED]))}"
        line += "" if len(stats.massive) <= _MOST_NAMED else " …"
    for name, value in (("model", stats.model), ("layer", stats.layer)):
        line += f", {name} {value}" if value not in (None, "") else ""
    few = few_tokens(stats)
    return line if few is None else f"{line}; {few}"


NODES = [ReferenceStats]
