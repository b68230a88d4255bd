"""Hidden Layer Select: the gate from hidden states to CONDITIONING."""

from __future__ import annotations

import time
from typing import Any

from comfy_api.latest import io

from ..vlm.conditioning.check import misfit
from ..vlm.conditioning.entries import Entry, write_entries
from ..vlm.running.hidden_states import HiddenStates as HeldStates
from ..vlm.tokens.layer_spec import parse_gains, parse_layers
from ..vlm.tokens.select import COMBINES, choose_layers, select_layers
from .devices import conditioning_device
from .shown import shown
from .sockets import HiddenStates, need
from .widget_text import need_text
from .words import with_notes

AUTO = "auto"
# Deep enough for any model: only whether the text can be read is checked when it is queued.
_ANY_DEPTH = 1000


class HiddenLayerSelect(io.ComfyNode):
    """The gate from hidden states to CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCHiddenLayerSelect",
            display_name="Hidden Layer Select",
            category="VLM Conditioning/encode",
            description="Turns layers of a VLM's hidden states into CONDITIONING. Changing the "
            "layers does not run the VLM again, unless they are deeper than it went.",
            search_aliases=["VLM", "layer", "hidden layer", "VLM conditioning"],
            inputs=[
                HiddenStates.Input("hidden_states", tooltip="From VLM Encode Image/Text."),
                io.String.Input(
                    "layers",
                    default=AUTO,
                    tooltip="auto = the target's (Z-Image: -2, with pictures -8). A layer "
                    "(-8; 0 = embeddings, -1 = last), a list (9,18,27), a slice (2:36:3), all, or "
                    "layers with weights (-2:0.7, -8:0.3).",
                ),
                io.Combo.Input(
                    "combine",
                    options=[AUTO, *COMBINES],
                    default=AUTO,
                    tooltip="How several layers become one: mean, weighted (sum of layer times "
                    "weight), concat (one after another in width, each times its weight if there "
                    "are weights). auto = the target's.",
                ),
                io.Combo.Input(
                    "final_norm",
                    options=[AUTO, "on", "off"],
                    default=AUTO,
                    optional=True,
                    advanced=True,
                    tooltip="Whether the last layer comes with the model's final norm; other "
                    "layers have none. auto = the target's.",
                ),
                io.String.Input(
                    "gains",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="concat: what each layer is multiplied by, in their order: 1, 1, 0.5, "
                    "… (Krea 2 has twelve). 0 silences a layer. Empty = 1 for all.",
                ),
                io.Boolean.Input(
                    "hold_norm",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="With gains or weights on concat: scale each token back to the norm it "
                    "has without them, so that gains shift weight between layers and make no token "
                    "louder.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="Goes straight into a sampler."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, layers: str) -> bool | str:
        """Whether `layers` can be read, when the workflow is queued.

        ComfyUI tells what is returned as an error of each argument: there is one.
        """
        try:
            need_text(layers=layers)
            if layers is None or layers.strip() == AUTO:
                return True
            parse_layers(layers, _ANY_DEPTH)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        hidden_states: Any,
        layers: str,
        combine: str = AUTO,
        final_norm: str = AUTO,
        gains: str = "",
        hold_norm: bool = True,
    ) -> io.NodeOutput:
        """Selects; runs the layers that are deeper than what is held."""
        need(hidden_states, HeldStates, "hidden_states on Hidden Layer Select")
        start, held = time.perf_counter(), hidden_states.depth
        options = (
            layers.strip(),
            None if combine == AUTO else combine,
            None if final_norm == AUTO else final_norm == "on",
            parse_gains(gains),
        )
        choice = choose_layers(hidden_states, *options)
        entries = [
            Entry(select_layers(each, *options, hold_norm), each.options)
            for each in hidden_states.keyframes
        ]
        tokens = entries[0].tokens
        names = ", ".join(map(str, choice.indices[:12])) + ("…" if choice.indices[12:] else "")
        ran = hidden_states.depth - held
        how = f"{ran} layers run, {time.perf_counter() - start:.1f} s" if ran > 0 else "held"
        way = choice.combine
        if way == "concat" and choice.weights is not None:
            way += " with gains" + (", norm held" if hold_norm else "")
        line = (
            f"layer {names} of {hidden_states.num_layers - 1} ({way}), "
            f"{tokens.n} tokens, {tokens.width} wide, {how}"
        )
        wrong = misfit(tokens, hidden_states.target)
        return shown(
            with_notes(line, [wrong] if wrong else []),
            write_entries(entries, conditioning_device()),
        )


NODES = [HiddenLayerSelect]
