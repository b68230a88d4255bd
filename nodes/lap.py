"""LAP Pool: the gate that makes one layer of many."""

from __future__ import annotations

import time
from typing import Any

from comfy_api.latest import io

from ..vlm.conditioning.entries import Entry, write_entries
from ..vlm.connectors.lap import AUTO, choose_lap, lap_pool, parse_layer_strengths, parse_pooled
from ..vlm.connectors.lap_blocks import LAP, TXTFUSION
from ..vlm.connectors.pooling import PoolingConnector
from ..vlm.running.hidden_states import HiddenStates as HeldStates
from ..vlm.tokens.layer_spec import LayerChoice
from .devices import conditioning_device
from .shown import shown
from .sockets import Connector, HiddenStates, ManagedConnector, need
from .widget_text import need_text

# Deep enough for any model: only whether the text can be read is checked when it is queued.
_ANY_DEPTH = 1000


class LAPPool(io.ComfyNode):
    """Pools layers of hidden states into CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCLAPPool",
            display_name="LAP Pool",
            category="VLM Conditioning/encode",
            description="Pools several layers of a VLM into one CONDITIONING: with trained LAP "
            "weights by attention over the layers of each token (UniFusion), without them as a "
            "weighted mean.",
            search_aliases=["VLM", "LAP", "layerwise attention pooling", "UniFusion", "layers"],
            inputs=[
                HiddenStates.Input("hidden_states", tooltip="From VLM Encode Image/Text."),
                io.String.Input(
                    "layers",
                    default=AUTO,
                    tooltip="auto = the layers that the weights were trained on, else every third "
                    "from 2 on. Or a list (2,5,8), a slice (2:36:3) or all; 0 = "
                    "embeddings, -1 = last.",
                ),
                io.String.Input(
                    "strengths",
                    default="",
                    tooltip="Factors on the pooling weights of single layers, such as 2:1, 5:0.5, "
                    "8:0. A layer that is not named has 1; 0 leaves its share out. Empty = all 1"
                    ".",
                ),
                Connector.Input(
                    "connector",
                    optional=True,
                    tooltip="LAP weights from VLM Connector Loader. Not connected = the weighted "
                    "mean of the layers, which nothing was trained for.",
                ),
                io.Boolean.Input(
                    "refiner",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Whether the weights' refiner runs: two blocks in which the tokens "
                    "read one another. On = as trained. Without weights there is none.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="Goes straight into a sampler."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, layers: str, strengths: str) -> bool | str:
        """Whether both can be read, when the workflow is queued."""
        try:
            need_text(layers=layers, strengths=strengths)
            if layers is not None and layers.strip() != AUTO:
                parse_pooled(layers, _ANY_DEPTH)
            if strengths is not None:
                parse_layer_strengths(strengths, _ANY_DEPTH)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        hidden_states: Any,
        layers: str,
        strengths: str,
        connector: Any = None,
        refiner: bool = True,
    ) -> io.NodeOutput:
        """Pools; runs the layers that are deeper than what is held."""
        need(hidden_states, HeldStates, "hidden_states on LAP Pool")
        start, held = time.perf_counter(), hidden_states.depth
        choice = choose_lap(hidden_states, _lap_of(connector), layers, strengths)
        for each in hidden_states.keyframes:
            each.reach(*choice.indices)  # first the VLM runs, which could push the weights out
        entries = []
        for each in hidden_states.keyframes:
            lap = None if connector is None else connector.bring(each.n).module
            tokens = lap_pool(each, lap, layers, strengths, refiner)
            entries.append(Entry(tokens, each.options))
        tokens, ran = entries[0].tokens, hidden_states.depth - held
        line = (
            f"{_what(choice, _lap_of(connector), refiner)}, {tokens.n} tokens, {tokens.width} "
            f"wide, {f'{ran} layers run' if ran > 0 else 'held'}, "
            f"{time.perf_counter() - start:.1f} s{_good_for(_lap_of(connector))}"
        )
        return shown(line, write_entries(entries, conditioning_device()))


def _lap_of(connector: Any) -> LAP | None:
    """The LAP of a connector, if one is connected.

    Raises:
        ValueError: It is another connector.
    """
    if connector is None:
        return None
    need(connector, ManagedConnector, "connector on LAP Pool")
    trained = connector.connector
    if not isinstance(trained, PoolingConnector):
        raise ValueError(
            f"connector on LAP Pool needs LAP weights, {trained.name} is a {trained.title}. Use "
            "Connector Apply for it, or choose LAP weights on VLM Connector Loader."
        )
    return trained.module


def _what(choice: LayerChoice, lap: LAP | None, refiner: bool) -> str:
    names = ", ".join(
        f"{layer}" if weight == 1 else f"{layer} × {weight:g}"
        for layer, weight in zip(choice.indices[:12], choice.weights, strict=False)
    ) + ("…" if choice.indices[12:] else "")
    if lap is None:
        return f"no LAP weights: weighted mean of the layers {names}"
    return f"{lap.title} of {names}, refiner {'on' if refiner else 'off'}"


def _good_for(lap: LAP | None) -> str:
    """What is to be said about Krea 2's own weights, which no public model reads the result of."""
    if lap is None or lap.sizes.layout != TXTFUSION:
        return ""
    return (
        "; for inspection, and for experiments with a model that reads this width, such as "
        "Z-Image: Krea 2 itself reads all layers side by side (Hidden Layer Select)"
    )


NODES = [LAPPool]
