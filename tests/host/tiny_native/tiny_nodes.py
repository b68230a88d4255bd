"""Nodes that make tiny native models and write CONDITIONING to a file."""

from __future__ import annotations

import json
from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io
from comfy_execution.utils import get_executing_context
from safetensors.torch import save_file

from .models import CLIP_TARGETS, tiny_clip, tiny_qwen_image, tiny_z_image
from .weights import seeded

CATEGORY = "test only"


class TestTinyZImage(io.ComfyNode):
    """A random Z-Image model."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestTinyZImage",
            category=CATEGORY,
            inputs=[io.Int.Input("width", default=2560, min=8, max=65536)],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, width):
        return io.NodeOutput(tiny_z_image(width))


class TestTinyQwenImage(io.ComfyNode):
    """A random Qwen-Image model."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestTinyQwenImage",
            category=CATEGORY,
            inputs=[io.Int.Input("width", default=3584, min=8, max=65536)],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, width):
        return io.NodeOutput(tiny_qwen_image(width))


class TestTinyClip(io.ComfyNode):
    """A random native text encoder with the real tokenizer."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestTinyClip",
            category=CATEGORY,
            inputs=[
                io.Combo.Input("target", options=list(CLIP_TARGETS)),
                io.Int.Input("width", default=64, min=8, max=65536),
                io.Int.Input("layers", default=36, min=2, max=64),
            ],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls, target, width, layers):
        return io.NodeOutput(tiny_clip(target, width, layers))


class TestTinyConditioning(io.ComfyNode):
    """Random CONDITIONING of any width, for models whose text encoder is not at hand."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestTinyConditioning",
            category=CATEGORY,
            inputs=[
                io.Int.Input("width", default=4096, min=1, max=65536),
                io.Int.Input("tokens", default=16, min=1, max=4096),
                io.Int.Input("pooled", default=768, min=0, max=65536, tooltip="0 = none"),
                io.String.Input("name", default="a", tooltip="Same name, same numbers."),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, width, tokens, pooled, name):
        options = {"pooled_output": seeded(name, (2, pooled))[:1]} if pooled else {}
        return io.NodeOutput([[seeded(name, (1, tokens, width)) * width**0.5, options]])


class TestCutTokens(io.ComfyNode):
    """Keeps the first tokens and copies the options: what foreign nodes do to a conditioning."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestCutTokens",
            category=CATEGORY,
            inputs=[
                io.Conditioning.Input("conditioning"),
                io.Int.Input("tokens", default=4, min=1, max=4096),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, conditioning, tokens):
        return io.NodeOutput([[states[:, :tokens], {**o}] for states, o in conditioning])


class TestTextStream(io.ComfyNode):
    """Writes what leaves `txt_in` of a running model, and of a ControlNet, beside the outputs."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestTextStream",
            category=CATEGORY,
            inputs=[io.Model.Input("model"), io.ControlNet.Input("control_net", optional=True)],
            outputs=[io.Model.Output(), io.ControlNet.Output()],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model, control_net=None):
        context = get_executing_context()
        folder = Path(folder_paths.get_output_directory()) / "text_stream"
        folder.mkdir(parents=True, exist_ok=True)
        watched = {"model": model.model.diffusion_model}
        if control_net is not None:
            watched["control"] = control_net.control_model
        paths = {}
        for name, network in watched.items():
            path = folder / f"{context.prompt_id}_{name}.safetensors"
            for hook in getattr(network, "test_hooks", []):
                hook.remove()
            network.test_hooks = [network.txt_in.register_forward_hook(_writer(path))]
            paths[name] = str(path)
        return io.NodeOutput(model, control_net, ui={"text_stream": [paths]})


def _writer(path):
    def write(module, inputs, output):
        save_file({"stream": output.detach().float().cpu().contiguous()}, path)

    return write


class TestTensorDump(io.ComfyNode):
    """Writes every entry's tensor and options beside the outputs; passes the input on."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestTensorDump",
            category=CATEGORY,
            inputs=[io.Conditioning.Input("conditioning")],
            outputs=[io.Conditioning.Output()],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, conditioning):
        context = get_executing_context()
        folder = Path(folder_paths.get_output_directory()) / "tensor_dump"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{context.prompt_id}_{context.node_id}_{context.list_index}.safetensors"
        tensors, facts = {}, []
        for index, (states, options) in enumerate(conditioning):
            tensors[f"{index}"] = states
            tensors |= {f"{index}.options.{k}": v for k, v in options.items() if torch.is_tensor(v)}
            plain = {k: v for k, v in options.items() if is_plain(v)}
            facts.append({"keys": sorted(options), "options": plain})
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, path)
        path.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
        return io.NodeOutput(conditioning, ui={"tensor_dump": [str(path)]})


def is_plain(value) -> bool:
    """Whether a value is made of builtins only, so that JSON keeps it."""
    if isinstance(value, dict):
        return all(isinstance(k, str) and is_plain(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(is_plain(v) for v in value)
    return value is None or isinstance(value, (bool, int, float, str))


NODES = [
    TestTinyZImage,
    TestTinyQwenImage,
    TestTinyClip,
    TestTinyConditioning,
    TestCutTokens,
    TestTextStream,
    TestTensorDump,
]
