"""VLM Connector Loader and Connector Apply: trained weights between a VLM and a diffusion model."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io

from ..vlm.conditioning.entries import Entry, pair, read_entries, write_entries
from ..vlm.connectors.connector import ConnectorOutput
from ..vlm.connectors.load import load_connector
from ..vlm.files.units import MEGABYTE
from ..vlm.running.hidden_states import HiddenStates as HeldStates
from ..vlm.tokens.filter import KEEP_PRESETS, filter_tokens
from ..vlm.tokens.tokens import Tokens
from . import folders
from .devices import conditioning_device
from .shown import shown
from .sockets import Connector, HiddenStates, ManagedConnector, need

AUTO = "auto"
POOLED, FOR_CONTROLNET = "pooled_output", "cross_attn_controlnet"


class ConnectorLoader(io.ComfyNode):
    """Loads a connector."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCConnectorLoader",
            display_name="VLM Connector Loader",
            category="VLM Conditioning/connectors",
            description="Loads trained weights that map a VLM's hidden states to what a diffusion "
            "model reads: Qwen2VL-Flux's connector, X2I's AlignNet, LAP weights (UniFusion, Krea "
            "2), or another linear layer or MLP. What it is, is read from the weights.",
            search_aliases=["VLM", "connector", "AlignNet", "X2I", "Qwen2VL-Flux", "projector"],
            inputs=[
                io.Combo.Input(
                    "connector",
                    options=folders.connector_names(),
                    tooltip="A file of models/vlm_connectors or of that name in "
                    "extra_model_paths.yaml: .safetensors, or .pt and .bin, which are read as "
                    "tensors only. A replaced file is read again.",
                )
            ],
            outputs=[
                Connector.Output(
                    display_name="connector",
                    tooltip="For Connector Apply; LAP weights also for LAP Pool.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, connector: str) -> tuple | None:
        """Changes when the file does, so that a replaced one is read."""
        return folders.connector_fingerprint(connector)

    @classmethod
    def execute(cls, connector: str) -> io.NodeOutput:
        """Loads it to the CPU; it goes to the device when it is applied."""
        loaded = load_connector(folders.connector_file(connector))
        size = sum(weight.nbytes for weight in loaded.module.parameters()) / MEGABYTE
        pooled = f", pooled {loaded.pooled}" if loaded.pooled else ""
        line = f"{loaded.title}, {loaded.in_width} to {loaded.width} wide{pooled}, {size:.0f} MB"
        if loaded.warning:
            line += f"; {loaded.warning}"
        elif loaded.made_for:
            line += f"; made for {loaded.made_for}"
        return shown(line, ManagedConnector(loaded))


class ConnectorApply(io.ComfyNode):
    """Maps hidden states or CONDITIONING with a connector."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCConnectorApply",
            display_name="Connector Apply",
            category="VLM Conditioning/connectors",
            description="Turns hidden states into CONDITIONING for the diffusion model that a "
            "connector was trained for, such as FLUX.1.",
            search_aliases=["VLM", "connector", "AlignNet", "X2I", "Qwen2VL-Flux", "FLUX.1"],
            inputs=[
                io.MultiType.Input(
                    "tokens",
                    types=[HiddenStates, io.Conditioning],
                    tooltip="Hidden states of VLM Encode; for a connector that reads one layer "
                    "also CONDITIONING from a gate. Hidden states give such a connector the last "
                    "layer.",
                ),
                Connector.Input("connector", tooltip="From VLM Connector Loader."),
                io.Combo.Input(
                    "keep",
                    options=[AUTO, *KEEP_PRESETS],
                    default=AUTO,
                    optional=True,
                    advanced=True,
                    tooltip="Which tokens come out. auto = as the connector was trained: the "
                    "picture's for Qwen2VL-Flux, all for the others.",
                ),
                io.Conditioning.Input(
                    "pooled_from",
                    optional=True,
                    tooltip="A conditioning whose pooled vector goes along, in place of the "
                    "connector's own. Qwen2VL-Flux: CLIP Text Encode (DualCLIPLoader, type flux) "
                    "with no text.",
                ),
                io.Conditioning.Input(
                    "for_controlnet",
                    optional=True,
                    tooltip="Another picture's conditioning from Connector Apply: the ControlNet "
                    "reads it instead, while the model reads this one. Both are cut to the "
                    "shorter.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="Goes straight into a sampler, or into T5 Bridge.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        tokens: Any,
        connector: Any,
        keep: str = AUTO,
        pooled_from: Any = None,
        for_controlnet: Any = None,
    ) -> io.NodeOutput:
        """Applies it to every entry."""
        need(connector, ManagedConnector, "connector on Connector Apply")
        start = time.perf_counter()
        if isinstance(tokens, HeldStates):
            sources = [(each, each.options) for each in tokens.keyframes]
        else:
            takes = "hidden states or CONDITIONING"
            read = read_entries(tokens, "tokens on Connector Apply", takes)
            sources = [(entry.tokens, entry.options) for entry in read]
        entries = []
        for states, options in sources:
            out = _apply(connector, states, keep)
            if out.pooled is not None:
                options = {**options, POOLED: out.pooled.to(conditioning_device())}
            entries.append(Entry(out.tokens, options))
        if pooled_from is not None:
            entries = _with_pooled(entries, pooled_from)
        if for_controlnet is not None:
            entries = _with_controlnet(entries, for_controlnet)
        line = _line(connector, entries[0], time.perf_counter() - start)
        return shown(line, write_entries(entries, conditioning_device()))


def _apply(connector: ManagedConnector, states: HeldStates | Tokens, keep: str) -> ConnectorOutput:
    """One entry through the connector; one that reads a single layer runs what is kept only."""
    trained = connector.connector
    if keep == AUTO:
        keep = trained.keep if states.token_map is not None else "all"
    if trained.reads_all_layers:
        out = connector.bring(states.n)(states)
        return replace(out, tokens=filter_tokens(out.tokens, keep))
    kept = filter_tokens(states, keep)
    return connector.bring(kept.n)(kept)


def _with_pooled(entries: list[Entry], conditioning: Any) -> list[Entry]:
    """The entries with the pooled vectors of another conditioning.

    Raises:
        ValueError: That has none.
    """
    socket = "pooled_from on Connector Apply"
    with_pooled = []
    for main, other in pair(entries, read_entries(conditioning, socket)):
        pooled = other.options.get(POOLED)
        if not isinstance(pooled, torch.Tensor):
            raise ValueError(
                f"{socket} has no pooled vector. Connect CLIP Text Encode with a CLIP that gives "
                "one: DualCLIPLoader of type flux."
            )
        with_pooled.append(replace(main, options={**main.options, POOLED: pooled}))
    return with_pooled


def _with_controlnet(entries: list[Entry], conditioning: Any) -> list[Entry]:
    """The entries with another picture's tokens for the ControlNet, both cut to the shorter."""
    socket = "for_controlnet on Connector Apply"
    both = []
    for main, other in pair(entries, read_entries(conditioning, socket)):
        if other.tokens.width != main.tokens.width:
            raise ValueError(
                f"{socket} is {other.tokens.width} wide, the connector gives {main.tokens.width}. "
                "Connect what another Connector Apply made with the same connector."
            )
        shorter = range(min(main.tokens.n, other.tokens.n))
        theirs = other.tokens.take(shorter).states.to(conditioning_device(), torch.float32)
        options = {**main.options, FOR_CONTROLNET: theirs}
        both.append(Entry(main.tokens.take(shorter), options))
    return both


def _line(connector: ManagedConnector, first: Entry, seconds: float) -> str:
    tokens, pooled = first.tokens, first.options.get(POOLED)
    line = f"{connector.connector.title}: {tokens.n} tokens, {tokens.width} wide, "
    if pooled is None:
        line += (
            "no pooled vector: FLUX.1 will run on zeros (connect CLIP Text Encode to pooled_from)"
        )
    else:
        line += f"pooled {pooled.shape[-1]}"
    if FOR_CONTROLNET in first.options:
        line += f", {first.options[FOR_CONTROLNET].shape[1]} others for the ControlNet"
    return f"{line}, {seconds:.1f} s"


NODES = [ConnectorLoader, ConnectorApply]
