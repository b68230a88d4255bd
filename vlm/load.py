"""Loading a VLM from a folder in Hugging Face layout, with every part checked first."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch

from .backbone import Backbone
from .families import Family, family_of
from .host import Host
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
    tokenizer = Tokenizer(path)
    rules = read_visual_rules(path, config)
    check_weights(path)
    model = _load_weights(path, family, torch_dtype(dtype), torch.device(device))
    backbone = Backbone(model, family)
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


def read_config(path: Path) -> dict:
    """config.json of a model folder.

    Raises:
        FileNotFoundError: No folder, or no config.json in it.
        ValueError: It is not JSON.
    """
    if not path.is_dir():
        raise FileNotFoundError(
            f"There is no folder {path}. Name a folder that holds a model in Hugging Face layout."
        )
    file = path / "config.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{path} has no config.json, so it is not a model folder in Hugging Face layout. "
            "Download the whole repository of the model, not only its weights."
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid JSON ({error}). Download it again.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file} does not hold a JSON object. Download it again.")
    return config


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a model folder, as its index lists them.

    Raises:
        FileNotFoundError: There are none, or the index names one that is not there.
        ValueError: A damaged index.
    """
    index = path / "model.safetensors.index.json"
    if index.is_file():
        try:
            listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            names = sorted(set(listed.values()))
        except (json.JSONDecodeError, KeyError, AttributeError, UnicodeDecodeError) as error:
            raise ValueError(f"{index} is damaged ({error}). Download it again.") from error
    else:
        names = ["model.safetensors"]
    files = [path / name for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{path} lacks {', '.join(missing)}. Download the missing files of the model; weights "
            "are read as safetensors only."
        )
    return files


def check_weights(path: Path) -> None:
    """Checks that every weight file is whole, before anything large is read.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is cut short or is not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    for file in weight_files(path):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{file} is not a whole safetensors file ({error}). The download was cut short; "
                "download it again."
            ) from error


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
    model, info = architecture.from_pretrained(
        str(path),
        dtype=dtype,
        attn_implementation="sdpa",
        local_files_only=True,
        output_loading_info=True,
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(
            f"The weights in {path} lack {len(missing)} tensors of {family.title}, the first is "
            f"{missing[0]}. Download the files of the model again."
        )
    # The LM head is never run: hidden states need the base model only.
    return model.model.eval().requires_grad_(False).to(device)
