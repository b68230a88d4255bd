"""Loading a VLM from a folder in Hugging Face layout or from one file, every part checked first."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .arguments import checked, need_size
from .devices import torch_device
from .families import FAMILIES, Family, family_of
from .logger import LOG
from .model import VLM
from .pictures.preprocessor import Preprocessor
from .pictures.preprocessor_values import check_built_tower, check_vision_numbers
from .prompts.tokenizer import Tokenizer
from .quoted import told
from .running.disk_cache import DiskCache
from .running.engine import Engine
from .running.host import Host
from .running.huggingface import HuggingFaceBackbone
from .running.plain_forward import PlainForward
from .running.prefix_cache import PrefixCache
from .running.self_check import LAYERS, runs_plain
from .sounds.audio_numbers import check_audio_numbers
from .sounds.preprocessor import SoundPreprocessor
from .weights import single_file
from .weights.checkpoint import Checkpoint, load_model
from .weights.config_values import check_counts, check_kinds, check_rope, without_nulls
from .weights.folder import (
    build_config,
    check_tokenizer,
    check_weights,
    find_adapter,
    read_config,
    read_stops,
    weight_files,
    what_runs,
)
from .weights.gguf import gguf_message, is_gguf
from .weights.lm_head import find_head
from .weights.other_layouts import check_config
from .weights.quantized import check_quantize, load_quantized
from .weights.tensor_names import find_family

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@checked
def load(
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "auto",
    *,
    width: int | None = None,
    layers: int | None = None,
    family: str = "qwen3_vl",
    host: Host | None = None,
    prefix_cache_mb: float = 1024,
    tokenizer: str | Path | None = None,
    config: dict[str, Any] | None = None,
    quantize: str | None = None,
    disk_cache: DiskCache | None = None,
) -> VLM:
    """Loads a VLM.

    Args:
        folder: A folder with config.json, tokenizer and safetensors; a .safetensors file with all
            of a model, as ComfyUI's text encoders are; or "tiny", the built-in random model (see
            `vlm.tiny.folder`).
        device: Where the weights go; `auto` = the first of cuda, xpu, mps and cpu that is there. On
            the CPU they stay pages of the files as long as their
            dtype is the one asked for: leave the files as they are while the model is in use.
        dtype: `float32`, `bfloat16`, `float16` or a torch dtype; `auto` = as config.json says, or
            else as in the files; bfloat16 for fp8. Weights that are fp8 in the files stay fp8,
            and this is what they are computed in; where the device cannot hold fp8, they become
            this, with a warning.
        width: Of the tiny model, default 64.
        layers: Decoder layers of the tiny model, default 36.
        family: `model_type` of the tiny model.
        host: Who moves the weights and shows progress; None = they stay on `device`.
        prefix_cache_mb: Bound of the prefix cache, MB (2**20 bytes).
        tokenizer: A folder with the tokenizer; None = the model's folder, or `tokenizer` beside
            it as in the pipelines of diffusers, or the folder that a file lies in.
        config: Content of config.json; None = the folder's. For a file: NAME.json beside it, a
            config.json beside it that names the family, or else that of the family's published
            model of the same width.
        quantize: `8-bit` or `4-bit` through bitsandbytes, for folders; None = as they are.
        disk_cache: Keeps the layers asked for beyond this process; None = nothing is kept.

    Returns:
        The model, in eval mode; its LM head is read when it first writes.

    Raises:
        FileNotFoundError: The folder, the file or a part of it is missing.
        ValueError: A family that is not run here, a damaged file, an unknown dtype, bitsandbytes
            asked for but not installed.
    """
    to = _Target(torch_dtype(dtype), torch_device(device), check_quantize(quantize))
    need_size(prefix_cache_mb, "prefix_cache_mb")
    keep = {
        "host": host or Host(),
        "prefix_cache": PrefixCache(prefix_cache_mb),
        "disk_cache": disk_cache,
    }
    if str(folder) == "tiny":
        from .tiny.folder import write_tiny

        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            sizes = {"width": width, "layers": layers}
            given = {key: size for key, size in sizes.items() if size is not None}
            path = write_tiny(Path(place) / "tiny", family, **given)
            return _load("tiny", _read_folder(path, tokenizer, config), to, keep, files_go=True)
    if width is not None or layers is not None:
        raise ValueError('width and layers belong to the built-in model: load("tiny", ...).')
    path = Path(folder)
    source = read_source(path, tokenizer, config)
    if (adapter := find_adapter(path)) is not None:
        LOG.warning(adapter)
    return _load(path.stem if path.is_file() else path.name, source, to, keep)


@dataclass(frozen=True)
class _Target:
    """As what and where the weights are wanted."""

    dtype: str | torch.dtype
    device: torch.device
    quantize: str | None


@dataclass(frozen=True)
class Source:
    """What there is of a model; everything but the weights is read.

    Attributes:
        path: Its folder or file.
        config: Content of config.json.
        built: The same as transformers' own object.
        family: Its family.
        tokenizer: Its tokenizer.
        preprocessor: How it wants its pictures; None where it cannot see.
        hearing: How it wants its sounds; None where it cannot hear.
        files: Its weights, mapped; None = a folder that was saved quantised.
    """

    path: Path
    config: dict[str, Any]
    built: Any
    family: Family
    tokenizer: Tokenizer
    preprocessor: Preprocessor | None
    hearing: SoundPreprocessor | None
    files: Checkpoint | None


def read_source(
    path: Path, tokenizer: str | Path | None = None, config: dict[str, Any] | None = None
) -> Source:
    """Reads everything of a model but its weights, and checks that their files are whole.

    Args:
        path: A folder or a .safetensors file.
        tokenizer: As for `load`.
        config: As for `load`.

    Raises:
        FileNotFoundError: As `load`.
        ValueError: As `load`.
    """
    if is_gguf(path):
        raise ValueError(gguf_message(path.name))
    if path.suffix == single_file.SUFFIX and not path.is_dir():
        return _read_file(path, tokenizer, config)
    return _read_folder(path, tokenizer, config)


def _read_folder(path: Path, tokenizer: str | Path | None, config: dict | None) -> Source:
    config = read_config(path) if not config else what_runs(config)
    check_kinds(config, path)
    family = family_of(config.get("model_type"), f"{path}")
    check_config(config, path)
    check_counts(config, check_weights(path), path)
    check_vision_numbers(config, path)
    check_rope(config, path, family.decoder.mrope)
    built = build_config(config, family, path)
    check_built_tower(built, path)
    place = _tokenizer_of(path) if tokenizer is None else tokenizer
    reads = _read_tokenizer(place, config=built if Path(place) == path else None)
    said = without_nulls(config)
    preprocessor = family.vision.read_preprocessor(path, said) if family.vision else None
    hearing = family.audio.read_preprocessor(path) if family.audio else None
    if hearing is not None:
        check_audio_numbers(said, hearing, path)
    quantised = bool(config.get("quantization_config"))
    files = None if quantised else Checkpoint(path, weight_files(path), family)
    return Source(path, config, built, family, reads, preprocessor, hearing, files)


def _tokenizer_of(path: Path) -> Path:
    """Where a model folder's tokenizer is: in it, or beside it as in the pipelines of diffusers."""
    beside = path.parent / "tokenizer"
    alone = not single_file.has_tokenizer(path) and single_file.has_tokenizer(beside)
    return beside if alone else path


def _read_file(path: Path, tokenizer: str | Path | None, config: dict | None) -> Source:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Name a .safetensors file with a VLM.")
    files = Checkpoint(path, [path])
    family = find_family(files.names, f"{path}")
    config = config or single_file.config_beside(path, family)
    config = config or single_file.published_config(files, family)
    check_kinds(config, path)
    if config.get("model_type") != family.model_type:
        raise ValueError(
            f"The config.json for {path} says {told(config.get('model_type'))}, its tensors "
            f"are those of {family.title} ({family.model_type}). Take the config.json of the same "
            "model, or none."
        )
    check_counts(config, len(files.entries), path)
    check_vision_numbers(config, path)
    check_rope(config, path, family.decoder.mrope)
    built = build_config(config, family, path)
    check_built_tower(built, path)
    place = single_file.tokenizer_beside(path) if tokenizer is None else tokenizer
    # The folder's own template may be that of another model with the same tokenizer.
    reads = _read_tokenizer(place, family.chat_template)
    preprocessor = single_file.published_preprocessor(config, family)
    return Source(path, config, built, family, reads, preprocessor, None, files)


def _read_tokenizer(
    folder: str | Path, chat_template: str | None = None, config: Any = None
) -> Tokenizer:
    check_tokenizer(Path(folder))
    return Tokenizer(folder, chat_template, config)


def _load(
    name: str, source: Source, to: _Target, keep: dict[str, Any], files_go: bool = False
) -> VLM:
    path, family = source.path, source.family
    if to.quantize is not None and path.is_file():
        raise ValueError(
            f"{path} is a single file; `quantize` is for folders in Hugging Face layout. "
            "Leave it out, or load the model's folder."
        )
    if source.files is None or to.quantize is not None:
        model = load_quantized(path, source.built, family, to.quantize, to.dtype, to.device)
    else:
        dtype = _own_dtype(source.config, source.files) if to.dtype == "auto" else to.dtype
        runs_on = keep["host"].device
        model = load_model(source.files, source.built, family, dtype, to.device, runs_on)
    backbone = HuggingFaceBackbone(model, family, find_head(path, source.config, source.files))
    if files_go:
        backbone.leave_files()
    size = source.tokenizer.size(without=family.spare_tokens)
    if size > backbone.vocabulary:
        raise ValueError(
            f"The tokenizer for {path} has {size} tokens, the weights know "
            f"{backbone.vocabulary}. They belong to different models; download both again."
        )
    for sense in (family.vision and family.vision.image_token, family.audio and family.audio.token):
        if sense:
            source.tokenizer.id_of(sense)  # says so where it is a text-only model's
    # The toy model of a family with several language models has one of them.
    inside: str = source.built.get_text_config().model_type if family.language_models else ""
    if _runs_plain(family) or _runs_plain(FAMILIES.get(inside)):
        backbone.plain = PlainForward(backbone.text, family.decoder)
    engine = Engine(name, family, backbone, **keep)
    stops = source.tokenizer.stops | read_stops(path, source.config)
    return VLM(engine, source.tokenizer, source.preprocessor, hearing=source.hearing, stops=stops)


def _runs_plain(family: Family | None) -> bool:
    """Whether this version of transformers is known not to run a family layer by layer."""
    if family is None:  # of a language model that is no family by itself
        return False
    kind = family.model_type
    return runs_plain(family, lambda: load("tiny", dtype="float32", layers=LAYERS, family=kind))


def _own_dtype(config: dict[str, Any], files: Checkpoint) -> torch.dtype:
    """The dtype that config.json names, as transformers reads it, or else that of the files."""
    said = [part.get(key) for part in (config, config.get("text_config") or {})
            for key in ("dtype", "torch_dtype")]  # fmt: skip
    if files.has_fp8:
        return torch.bfloat16
    return next(
        (DTYPES[one] for one in said if isinstance(one, str) and one in DTYPES), files.own_dtype()
    )


def torch_dtype(dtype: str | torch.dtype) -> str | torch.dtype:
    """A dtype by its name; "auto" stays.

    Raises:
        ValueError: Not a dtype that a model can run in.
    """
    if dtype == "auto" or dtype in DTYPES.values():
        return dtype
    if dtype in DTYPES:
        return DTYPES[dtype]
    raise ValueError(f"There is no dtype {told(dtype)}. Choose auto, {', '.join(DTYPES)}.")
