"""VLM Loader: from a model folder or file to a VLM under ComfyUI's memory management."""

from __future__ import annotations

from comfy_api.latest import io

from ..vlm.download.pins import gigabytes
from ..vlm.files.units import GIGABYTE
from ..vlm.load import DTYPES, load
from ..vlm.model import VLM
from ..vlm.prompts.prompt_syntax import PromptSyntax
from ..vlm.weights.gguf import gguf_message, is_gguf
from ..vlm.weights.quantized import QUANTIZE
from ..vlm.weights.safetensors_header import read_header
from . import downloads, folders
from .caches import disk_cache, disk_cache_input, prefix_cache_input
from .devices import DEVICES, ComfyHost
from .fitting import FITS, fits
from .native_files import load_with_comfyui
from .native_sizes import is_read_by_comfyui
from .shown import shown
from .sockets import Model
from .words import in_node_words

NONE = "none"


class VLMLoader(io.ComfyNode):
    """Loads a VLM from a folder in Hugging Face layout or from one file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCLoader",
            display_name="VLM Loader",
            category="VLM Conditioning/load",
            description="Loads a vision-language model (Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Qwen3.5, "
            "InternVL, Gemma 3, LLaVA-OneVision, SmolVLM) or a text-only one (Qwen3, Llama 3) from "
            "a folder in Hugging Face layout, or a single .safetensors file, through ComfyUI's own "
            "loader where Load CLIP reads it: fp8, int8 and nvfp4 included. ComfyUI moves its "
            "weights like any other model's.",
            search_aliases=[
                "VLM",
                "load VLM",
                "Qwen-VL",
                "Qwen3-VL",
                "Qwen2.5-Omni",
                "InternVL",
                "Gemma 3",
                "Llama 3",
                "LLaVA",
                "SmolVLM",
                "vision language model",
            ],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=[*folders.model_names(), *downloads.names()],
                    extra_dict={downloads.LABELS: downloads.labels(), FITS: fits()},
                    tooltip="Model folder (config.json, tokenizer, safetensors) or single "
                    ".safetensors file of a Qwen model, found up to two levels deep in "
                    "models/VLM, models/vlm, models/LLM or models/text_encoders, and in the "
                    "folders of extra_model_paths.yaml. What is listed with a number of GB is not "
                    "there yet: `download` fetches it.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=["auto", *DTYPES],
                    default="auto",
                    tooltip="Precision of weights and hidden states. auto = as in the files; a "
                    "single file that Load CLIP reads goes through ComfyUI's own loader (fp8, "
                    "int8, nvfp4) and computes in float32. float16 can overflow in Qwen models; "
                    "bfloat16 does not.",
                ),
                io.Combo.Input(
                    "device",
                    options=list(DEVICES),
                    default="auto",
                    tooltip="Where it runs. auto = where ComfyUI runs text encoders.",
                ),
                prefix_cache_input(),
                io.Combo.Input(
                    "quantize",
                    options=[NONE, *QUANTIZE],
                    default=NONE,
                    optional=True,
                    advanced=True,
                    tooltip="8-bit or 4-bit weights of the language model through bitsandbytes, "
                    "which must be installed; model folders only. none = as they are.",
                ),
                disk_cache_input(),
                io.Boolean.Input(
                    "download",
                    default=False,
                    optional=True,
                    socketless=True,  # a wire or a block's own widget could come with a file
                    tooltip=downloads.what_it_does(),
                ),
            ],
            outputs=[Model.Output(display_name="model", tooltip="The model, for VLM Encode.")],
        )

    @classmethod
    def validate_inputs(cls, model: str | None, download: bool | None = False) -> bool | str:
        """Says which file is missing or cannot be read, and what helps, before anything runs."""
        if download is None:  # over a wire
            return "`download` takes no wire. Turn it on or off on VLM Loader itself."
        if model is None:  # over a wire
            return True
        try:
            path = downloads.find_model(model, download)
        except (FileNotFoundError, ValueError) as error:
            return str(error)
        if path is None or not is_gguf(path):
            return True
        return in_node_words(gguf_message(path.name))

    @classmethod
    def execute(
        cls,
        model: str,
        dtype: str,
        device: str,
        prefix_cache_mb: int = 1024,
        quantize: str = NONE,
        disk_cache_mb: int = 0,
        download: bool = False,
    ) -> io.NodeOutput:
        """Loads it; the weights go to the device when something is encoded."""
        path, fetched = downloads.find_model(model, download), 0
        if path is None:
            path, fetched = downloads.bring(model)
        as_it_is = dtype == "auto" and quantize == NONE
        if as_it_is and path.is_file() and is_read_by_comfyui(path, read_header(path).entries):
            native = load_with_comfyui(path, device, prefix_cache_mb, disk_cache_mb)
            size = native.patcher.model_size()
            line = _line(native, "weights as in the file, computed in float32", size, fetched)
            return shown(line, native)
        loaded = load(
            path,
            dtype=dtype,
            host=ComfyHost(device),
            prefix_cache_mb=prefix_cache_mb,
            tokenizer=folders.tokenizer_folder(path),
            quantize=None if quantize == NONE else quantize,
            disk_cache=disk_cache(disk_cache_mb),
        )
        loaded.syntax = PromptSyntax(folders.embedding_folders())
        size = sum(weight.nbytes for weight in loaded.backbone.parameters())
        precision = str(loaded.backbone.dtype).removeprefix("torch.")
        return shown(_line(loaded, precision, size, fetched), loaded)


def _line(model: VLM, precision: str, size: int, fetched: int) -> str:
    """What was loaded, how large it is, which of the two read it, and what came for it."""
    backbone = model.backbone
    by = "this pack's" if isinstance(model.host, ComfyHost) else "ComfyUI's"
    return (
        f"{model.family.title}, {backbone.num_decoder_layers} layers, {backbone.width} wide, "
        f"{precision}, {size / GIGABYTE:.1f} GB, read by {by} loader"
        + (f"; {gigabytes(fetched)} were fetched first" if fetched else "")
    )


NODES = [VLMLoader]
