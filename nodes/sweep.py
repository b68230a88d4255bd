"""Conditioning Sweep: every combination of some settings from one run of the VLM."""

from __future__ import annotations

import time
from typing import Any

from comfy_api.latest import io

from ..vlm.conditioning.entries import read_entries, write_entries
from ..vlm.conditioning.sweep import sweep
from ..vlm.conditioning.sweep_values import AXES, OFF, Axis, Steps, combine, parse_axis
from ..vlm.model import VLM
from ..vlm.report.contact_sheet import SEPARATOR
from ..vlm.running.hidden_states import HiddenStates as HeldStates
from ..vlm.targets import TARGETS
from ..vlm.tokens.blend import METHODS
from ..vlm.tokens.filter import KEEP_PRESETS
from ..vlm.tokens.normalize import MODES
from ..vlm.tokens.outliers import OUTLIER_MODES
from ..vlm.tokens.stats import Stats as Reference
from .devices import conditioning_device
from .prompting import check_template, connected, has_odd_images, images_input
from .shown import shown
from .sockets import HiddenStates, Model, Stats, need
from .widget_text import need_text

NONE = "none"
START = Steps()


class ConditioningSweep(io.ComfyNode):
    """Every combination of some settings, as a list of CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCSweep",
            display_name="Conditioning Sweep",
            category="VLM Conditioning/encode",
            description="Tries the values of one or two settings on a picture's way into a text: "
            "layer, pooled size, kept tokens, normalisation, outliers, blend method, alpha. The "
            "VLM runs once; the sampler behind this node makes a picture of every combination, "
            "and Contact Sheet lays them out.",
            search_aliases=["VLM", "XY plot", "compare settings", "grid", "parameter sweep"],
            accept_all_inputs=True,  # see growing.py
            inputs=[
                io.MultiType.Input(
                    "source",
                    types=[HiddenStates, Model],
                    tooltip="Hidden states from VLM Encode Image/Text, or a VLM, which then reads "
                    "`prompt` and `images` of this node.",
                ),
                io.Conditioning.Input(
                    "text", tooltip="Text CONDITIONING of the target's own encoder."
                ),
                *_axes_inputs(),
                *_fixed_inputs(),
                Stats.Input(
                    "stats",
                    optional=True,
                    tooltip="From VLM Reference Statistics, to normalise to; without it `text` is "
                    "measured.",
                ),
                *_prompt_inputs(),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditionings",
                    is_output_list=True,
                    tooltip="A list: whatever reads it runs once for each.",
                ),
                io.String.Output(
                    display_name="labels",
                    is_output_list=True,
                    tooltip="A list: the values of each, for Contact Sheet.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        axis_1: str,
        values_1: str,
        axis_2: str = NONE,
        values_2: str = "",
        layer: str = START.layer,
        images: Any = None,
    ) -> bool | str:
        """Whether axes, values and pictures can be read, when the workflow is queued."""
        if odd := has_odd_images(images):
            return odd
        try:
            need_text(values_1=values_1, values_2=values_2, layer=layer)
        except ValueError as error:
            return str(error)
        if None in (axis_1, values_1, axis_2, values_2):
            return True  # over a wire: not there yet
        try:
            combine(START, _axes(axis_1, values_1, axis_2, values_2))
            if layer is not None:
                parse_axis("layer", f"{layer};")  # one value, whatever commas it has
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        source: Any,
        text: Any,
        axis_1: str,
        values_1: str,
        axis_2: str = NONE,
        values_2: str = "",
        stats: Any = None,
        prompt: str = "",
        target: str = "z-image",
        images: dict | None = None,
        **fixed: Any,
    ) -> io.NodeOutput:
        """Makes the conditioning of every combination."""
        entries = read_entries(text, "text on Conditioning Sweep")
        if stats is not None:
            need(stats, Reference, "stats on Conditioning Sweep")
        start = time.perf_counter()
        axes = _axes(axis_1, values_1, axis_2, values_2)
        combinations = combine(Steps(**fixed), axes)
        states = _states(source, prompt, target, images)
        held = states.depth
        made = sweep(states, entries, combinations, stats, conditioning_device())
        ran = states.depth - held
        sizes = " x ".join(f"{len(axis.values)} of {axis.name}" for axis in axes)
        how = f"{ran} layers run" if ran > 0 else "no layer run"
        line = f"{len(made)} conditionings ({sizes}), {how}, {time.perf_counter() - start:.1f} s"
        labels = [SEPARATOR.join(each.names) for each in combinations]
        return shown(line, [write_entries(each, conditioning_device()) for each in made], labels)


def _axes(axis_1: str, values_1: str, axis_2: str, values_2: str) -> list[Axis]:
    axes = [parse_axis(axis_1, values_1)]
    return axes if axis_2 == NONE else [*axes, parse_axis(axis_2, values_2)]


def _states(source: Any, prompt: str, target: str, images: dict | None) -> HeldStates:
    """The hidden states that came in, or those of the node's own prompt."""
    if not isinstance(source, VLM):
        need(source, HeldStates, "source on Conditioning Sweep")
        return source
    pictures = connected(images)
    if not prompt.strip() and not pictures:
        raise ValueError(
            "source on Conditioning Sweep is a VLM, and there is nothing for it to read. Write "
            "`prompt`, connect `images`, or connect VLM Encode Image/Text to source."
        )
    check_template(source, TARGETS[target].template, "VLM Encode")
    return source.encode(prompt, pictures, target=target)


def _axes_inputs() -> list[io.Input]:
    separated = (
        "Commas between, or semicolons where a value has a comma (-8; -2:0.7, -8:0.3). At most 100 "
        "combinations."
    )
    return [
        io.Combo.Input(
            "axis_1",
            options=list(reversed(AXES)),
            default="alpha",
            tooltip="The setting that changes from picture to picture; the columns of the sheet "
            "where there are two.",
        ),
        io.String.Input(
            "values_1", default="0, 0.15, 0.3, 0.5", tooltip=f"Values of axis_1. {separated}"
        ),
        io.Combo.Input(
            "axis_2",
            options=[NONE, *reversed(AXES)],
            default=NONE,
            tooltip="A second setting, in the rows of the sheet. none = one axis only; values_2 "
            "is not read then.",
        ),
        io.String.Input(
            "values_2",
            default="",
            optional=True,
            tooltip=f"Values of axis_2. {separated}",
        ),
    ]


def _fixed_inputs() -> list[io.Input]:
    usual = {"optional": True, "advanced": True}
    zero_to_one = {"min": 0.0, "max": 1.0, "step": 0.01, **usual}
    return [
        io.String.Input(
            "layer", default=START.layer, **usual,
            tooltip="Where it is no axis: as on Hidden Layer Select. auto = the target's.",
        ),
        io.Int.Input(
            "pool", default=START.pool, min=0, max=16384, **usual,
            tooltip="Where it is no axis: at most so many picture tokens, as on Token Pool. 0 = "
            "not pooled.",
        ),
        io.Combo.Input(
            "keep", options=list(KEEP_PRESETS), default=START.keep, **usual,
            tooltip="Where it is no axis: which tokens go on, as on Token Filter.",
        ),
        io.Combo.Input(
            "normalisation", options=list(MODES), default=START.normalisation, **usual,
            tooltip="Where it is no axis: mode of Per-dim Normalize.",
        ),
        io.Float.Input(
            "strength", default=START.strength, **zero_to_one,
            tooltip="Where it is no axis: strength of Per-dim Normalize, 0..1. 0 = left as they "
            "are, outliers too.",
        ),
        io.Combo.Input(
            "outliers", options=[OFF, *OUTLIER_MODES], default=START.outliers, **usual,
            tooltip="Where it is no axis: outliers of Per-dim Normalize. off = nothing.",
        ),
        io.Combo.Input(
            "method", options=list(METHODS), default=START.method, **usual,
            tooltip="Where it is no axis: method of Alpha Blend.",
        ),
        io.Float.Input(
            "alpha", default=START.alpha, **zero_to_one,
            tooltip="Where it is no axis: share of the picture's tokens, 0..1. 0 = the text alone.",
        ),
    ]  # fmt: skip


def _prompt_inputs() -> list[io.Input]:
    return [
        io.String.Input(
            "prompt",
            multiline=True,
            default="",
            dynamic_prompts=True,
            optional=True,
            advanced=True,
            tooltip="Where source is a VLM: the words that it reads. Not read otherwise.",
        ),
        io.Combo.Input(
            "target",
            options=list(TARGETS),
            default="z-image",
            optional=True,
            advanced=True,
            tooltip="Where source is a VLM: the diffusion model that will read the result.",
        ),
        images_input(),
    ]


NODES = [ConditioningSweep]
