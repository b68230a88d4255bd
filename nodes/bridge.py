"""T5 Bridge: Qwen2VL-Flux's way to put a text beside the picture's tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.lora
import torch
from comfy_api.latest import io

from ..vlm.conditioning.entries import Entry, pair, read_entries, write_entries
from ..vlm.connectors.bridge import Linear, bridge, load_embedder
from ..vlm.quoted import told
from ..vlm.tokens.blend import blend
from ..vlm.tokens.tokens import Tokens
from . import folders
from .connectors import FOR_CONTROLNET
from .devices import conditioning_device
from .shown import shown

NODE = "T5 Bridge"
NOT_CHOSEN = "choose t5_embedder.pt"  # the first of the list would be somebody's connector


class T5Bridge(io.ComfyNode):
    """Puts T5 text into a model that reads pictures through its text input."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCT5Bridge",
            display_name="T5 Bridge (Qwen2VL-Flux)",
            category="VLM Conditioning/connectors",
            description="Text for Qwen2VL-Flux beside its picture. Its transformer reads T5 "
            "through a layer of its own; this finds what the model's single text input takes to "
            "the same.",
            search_aliases=["VLM", "T5", "Qwen2VL-Flux", "text and image", "t5_embedder"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="Qwen2VL-Flux's transformer, with all its patches: the result is "
                    "exact for this model only.",
                ),
                io.Conditioning.Input(
                    "text",
                    tooltip="T5's conditioning: CLIP Text Encode with DualCLIPLoader of type flux.",
                ),
                io.Combo.Input(
                    "embedder",
                    options=[NOT_CHOSEN, *folders.connector_names()],
                    tooltip="Qwen2VL-Flux's t5_embedder.pt, in models/vlm_connectors.",
                ),
                io.Conditioning.Input(
                    "image",
                    optional=True,
                    tooltip="The picture's tokens from Connector Apply: they come first, and their "
                    "pooled vector goes along. Not connected = the text alone.",
                ),
                io.ControlNet.Input(
                    "control_net",
                    optional=True,
                    tooltip="The ControlNet that is applied behind this node: it has a text input "
                    "of its own and gets its own solution.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="Picture, then text. Goes into Apply ControlNet or a sampler.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, embedder: str) -> bool | str:
        """Whether a file was chosen that is there, when the workflow is queued."""
        if embedder == NOT_CHOSEN:
            return (
                "T5 Bridge has no embedder. Choose Qwen2VL-Flux's t5_embedder.pt, which lies in "
                "models/vlm_connectors."
            )
        if embedder is not None and embedder not in folders.connector_names():
            return f"There is no connector file called {told(embedder)} in models/vlm_connectors."
        return True

    @classmethod
    def fingerprint_inputs(cls, embedder: str, **others: Any) -> tuple | None:
        """Changes when the file does, so that a replaced one is read."""
        return folders.connector_fingerprint(embedder)

    @classmethod
    def execute(
        cls, model: Any, text: Any, embedder: str, image: Any = None, control_net: Any = None
    ) -> io.NodeOutput:
        """Solves for the model, and for the ControlNet where there is one."""
        words = read_entries(text, f"text on {NODE}")
        loaded = load_embedder(folders.connector_file(embedder))
        txt_in = _text_input(model, "diffusion_model.txt_in", "model")
        control_in = None
        if control_net is not None:
            wrapped = getattr(control_net, "control_model_wrapped", None)
            control_in = _text_input(wrapped, "txt_in", "control_net")
        pairs = [(None, entry) for entry in words]
        if image is not None:
            pairs = pair(read_entries(image, f"image on {NODE}"), words)
        entries, errors = [], []
        for picture, word in pairs:
            solved = bridge(word.tokens, loaded, txt_in)
            errors.append(solved.error)
            options = dict((picture or word).options)
            if control_in is not None:
                theirs = bridge(word.tokens, loaded, control_in)
                errors.append(theirs.error)
                options[FOR_CONTROLNET] = _for_controlnet(picture, theirs.tokens)
            entries.append(Entry(_joined(picture and picture.tokens, solved.tokens), options))
        line = _line(entries[0], words[0].tokens.n, max(errors), control_in is not None)
        return shown(line, write_entries(entries, conditioning_device()))


def _joined(picture: Tokens | None, text: Tokens) -> Tokens:
    """The picture's tokens, then the text's.

    Raises:
        ValueError: They are not of one width.
    """
    if picture is None:
        return text
    if picture.width != text.width:
        raise ValueError(
            f"image on {NODE} is {picture.width} wide, the model reads {text.width}. Connect what "
            "Connector Apply made of the picture."
        )
    picture = replace(picture, states=picture.states.to(text.states))
    return blend(picture, text, alpha=1.0, method="concat")


def _for_controlnet(picture: Entry | None, text: Tokens) -> torch.Tensor:
    """What the ControlNet reads: the picture chosen for it, or the same one, then the text."""
    if picture is None:
        return text.states.to(conditioning_device())
    theirs = picture.options.get(FOR_CONTROLNET, picture.tokens.states)
    return _joined(Tokens(theirs), text).states.to(conditioning_device())


def _text_input(patcher: Any, name: str, socket: str) -> Linear:
    """The layer `txt_in` as it runs, patches included, in float32; nothing is loaded for it.

    Raises:
        ValueError: A model without such a layer.
    """
    parts = {}
    reads_t5 = patcher is not None and _is_flux1(patcher.model)
    patches = {} if not reads_t5 else patcher.get_key_patches(f"{name}.")
    for key, (base, *rest) in patches.items():
        weight, convert = base
        value = convert(weight.detach(), inplace=False).to(torch.float32, copy=True)
        if value.device.type not in ("cpu", "cuda"):
            value = value.cpu()  # others have no float64
        parts[key.rpartition(".")[2]] = comfy.lora.calculate_weight(rest, value, key)
    weight = parts.get("weight")
    if weight is None or weight.ndim != 2:
        kind = "nothing" if patcher is None else type(patcher.model).__name__
        raise ValueError(
            f"{socket} on {NODE} needs a FLUX.1 {'model' if socket == 'model' else 'ControlNet'} "
            f"with a text input txt_in, this is {kind}. Load Qwen2VL-Flux's transformer with Load "
            "Diffusion Model, a FLUX.1 ControlNet with Load ControlNet Model."
        )
    return Linear(weight, parts.get("bias"), f"the {socket.replace('_', '')}")


def _is_flux1(model: Any) -> bool:
    """Whether a model is FLUX.1, or a ControlNet, which says no more than its layers do."""
    config = getattr(model, "model_config", None)
    return config is None or config.unet_config.get("image_model") == "flux"


def _line(first: Entry, text: int, error: float, control: bool) -> str:
    line = f"{first.tokens.n - text} picture and {text} text tokens, solved to {error:.0e}"
    if control:
        return f"{line}, also for the ControlNet"
    if FOR_CONTROLNET in first.options:
        line += "; the ControlNet gets no text: connect it to control_net"
    return line


NODES = [T5Bridge]
