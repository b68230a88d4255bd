"""Loading a VLM from a folder in Hugging Face layout, with every part checked first."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from .families import Family, family_of
from .folder import check_tokenizer, check_weights, read_config
from .host import Host
from .huggingface import HuggingFaceBackbone
from .model import VLM
from .tokenizer import Tokenizer
from .visuals import read_visual_rules

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


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
) -> VLM:
    """Loads a VLM.

    Args:
        folder: A folder with config.json, tokenizer and safetensors; or "tiny", the built-in
            random model (see `vlm.tiny`).
        device: Where the weights go.
        dtype: `float32`, `bfloat16`, `float16` or a torch dtype; `auto` = as in the files.
        width: Of the tiny model, default 64.
        layers: Decoder layers of the tiny model, default 36.
        family: `model_type` of the tiny model.
        host: Who moves the weights and shows progress; None = they stay on `device`.
        prefix_cache_mb: Bound of the prefix cache, MB (2**20 bytes).

    Returns:
        The model, in eval mode, without its LM head.

    Raises:
        FileNotFoundError: The folder or a part of it is missing.
        ValueError: A family that is not run here, a damaged file, an unknown dtype.
    """
    if str(folder) == "tiny":
        from .tiny import write_tiny

        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            sizes = {"width": width, "layers": layers}
            given = {key: size for key, size in sizes.items() if size is not None}
            path = write_tiny(Path(place) / "tiny", family, **given)
            return _load("tiny", path, device, dtype, host, prefix_cache_mb)
    if width is not None or layers is not None:
        raise ValueError('width and layers belong to the built-in model: load("tiny", ...).')
    path = Path(folder)
    return _load(path.name, path, device, dtype, host, prefix_cache_mb)


def _load(name, path: Path, device, dtype, host, prefix_cache_mb) -> VLM:
    config = read_config(path)
    family = family_of(config.get("model_type"), f"{path}")
    check_tokenizer(path)
    tokenizer = Tokenizer(path)
    rules = read_visual_rules(path, config)
    check_weights(path)
    model = _load_weights(path, family, torch_dtype(dtype), torch_device(device))
    backbone = HuggingFaceBackbone(model, family)
    if tokenizer.size > backbone.vocabulary:
        raise ValueError(
            f"The tokenizer in {path} has {tokenizer.size} tokens, the weights know "
            f"{backbone.vocabulary}. They belong to different models; download the folder again."
        )
    return VLM(name, family, tokenizer, rules, backbone, host, prefix_cache_mb)


def torch_dtype(dtype: str | torch.dtype) -> str | torch.dtype:
    """A dtype by its name; "auto" stays.

    Raises:
        ValueError: Not a dtype that a model can run in.
    """
    if dtype == "auto" or dtype in DTYPES.values():
        return dtype
    if dtype in DTYPES:
        return DTYPES[dtype]
    raise ValueError(f"There is no dtype {dtype!r}. Choose auto, {', '.join(DTYPES)}.")


def torch_device(device: str | torch.device) -> torch.device:
    """A device that is there.

    Raises:
        ValueError: It is not, or the name means nothing.
    """
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"There is no device {str(device)!r} here. Choose cpu, or cuda where torch finds a GPU."
        ) from error
    return found


def _load_weights(
    path: Path, family: Family, dtype: str | torch.dtype, device: torch.device
) -> torch.nn.Module:
    import transformers

    architecture = getattr(transformers, family.architecture, None)
    if architecture is None:
        raise ValueError(
            f"transformers {transformers.__version__} has no {family.architecture}. "
            "Install transformers 4.57 or newer."
        )
    try:
        model, info = architecture.from_pretrained(
            str(path),
            dtype=dtype,
            attn_implementation="sdpa",
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, by name
        )
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The weights in {path} do not fit its config.json: transformers says {error}. "
            "Download the folder of the model again."
        ) from error
    _check_complete(path, family, info)
    return model.model.eval().requires_grad_(False).to(device)


def _check_complete(path: Path, family: Family, info: dict) -> None:
    """Refuses a model of which anything was made up; the LM head is never run and may lack."""
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("lm_head"))
    if missing:
        raise ValueError(
            f"The weights in {path} lack {len(missing)} tensors of {family.title}, the first is "
            f"{missing[0]}. Download the files of the model again."
        )
    mismatched = sorted(info["mismatched_keys"])
    if mismatched:
        # transformers 4.57 gives names, 5.x the two sizes as well.
        first = mismatched[0] if isinstance(mismatched[0], str) else mismatched[0][0]
        raise ValueError(
            f"In {path} {len(mismatched)} tensors have another size than config.json says, the "
            f"first is {first}. Files of different models were mixed; download the folder again."
        )
