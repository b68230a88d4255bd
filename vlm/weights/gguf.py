"""What is said of GGUF files, which this pack does not read."""

from __future__ import annotations

from pathlib import Path

SUFFIX = ".gguf"


def is_gguf(path: Path) -> bool:
    """Whether a path names a GGUF file."""
    return path.suffix.lower() == SUFFIX


def gguf_message(name: str) -> str:
    """What to do with a GGUF file instead.

    Source: loader.py of city96/ComfyUI-GGUF, December 2025 (text architectures `qwen2vl`, `qwen3`,
    `qwen3vl`; `gguf_mmproj_loader` is called for `qwen2vl` alone).

    Args:
        name: As the person chose it.
    """
    return (
        f"{name} is a GGUF file, which this pack does not read. In ComfyUI the node pack "
        "ComfyUI-GGUF (city96) does: CLIPLoader (GGUF) gives a CLIP for VLM From CLIP. The "
        "vision part is a second file with mmproj in its name: for Qwen2.5-VL it comes along when "
        "it lies in the same folder and its name contains that of the model file without the "
        "quantisation; for Qwen3-VL it does not come along, and the model reads text only."
    )
