"""Folders of models that see pictures, read through transformers with nothing left to chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import normalize

from ..files.json_file import read_json
from ..prompts.tokenizer import check_names
from ..quoted import reason, told

AT_ONCE = 32  # pictures in one forward


class PictureModel:
    """A frozen model with its image processor.

    Attributes:
        name: Of its folder.
        model: The model, in float32.
        device: Where it runs.
    """

    def __init__(
        self, folder: str | Path, class_of: dict[str, str], option: str, device: torch.device
    ):
        """Loads a folder in Hugging Face layout; no code of its own is run.

        Args:
            folder: With config.json, preprocessor_config.json and the weights.
            class_of: transformers' classes by the `model_type` that they take.
            option: What named the folder, for messages.
            device: Where it runs.

        Raises:
            FileNotFoundError: No such folder, or one that lacks a file.
            ValueError: Another kind of model, weights that are missing, or what cannot be read.
        """
        place = Path(folder)
        for file in (place, place / "config.json", place / "preprocessor_config.json"):
            if not file.exists():
                raise FileNotFoundError(
                    f"There is no {file} ({option}). Name a whole folder of such a model, as it is "
                    "downloaded."
                )
        kind = read_json(place / "config.json").get("model_type")
        if kind not in class_of:
            raise ValueError(
                f"{place.name} is a model of type {told(kind)}, {option} takes "
                f"{', '.join(class_of)}. Name a folder of one of these."
            )
        import transformers

        self.name, self.device = place.name, device
        self.model, info = _read(
            place,
            getattr(transformers, class_of[kind]).from_pretrained,
            output_loading_info=True,
            dtype=torch.float32,
        )
        # A pooler is no part of what is read here, and checkpoints often lack it.
        missing = [key for key in sorted(info["missing_keys"]) if "pooler" not in key]
        if missing:
            raise ValueError(
                f"The weights in {place.name} ({option}) lack {len(missing)} tensors, such as "
                f"{missing[0][:100]}. Download the folder again."
            )
        self.model.to(device).eval().requires_grad_(False)
        self._processor = _read_processor(place)

    @torch.no_grad()
    def embed(
        self, pictures: Sequence[Image.Image], forward: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Unit vectors of pictures, [B, D] float32 on the CPU.

        Args:
            pictures: RGB, of any sizes.
            forward: From pixels [b, 3, H, W] to vectors [b, D].
        """
        parts = []
        for start in range(0, len(pictures), AT_ONCE):
            some = [each.convert("RGB") for each in pictures[start : start + AT_ONCE]]
            pixels = self._processor(images=some, return_tensors="pt").pixel_values
            parts.append(forward(pixels.to(self.device)).float().cpu())
        return normalize(torch.cat(parts), dim=-1)


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, out of its own files alone.

    Raises:
        ValueError: It cannot be read, or names files elsewhere.
    """
    from transformers import AutoTokenizer

    check_names(folder)
    return _read(folder, AutoTokenizer.from_pretrained)


def _read_processor(folder: Path) -> Any:
    """How a folder's model wants its pictures.

    Raises:
        ValueError: It cannot be read, or not by this transformers alone.
    """
    import transformers

    try:
        reader = transformers.AutoImageProcessor.from_pretrained
    except ImportError as error:  # 5.12 to 5.17
        raise ValueError(
            f"transformers {transformers.__version__} reads no image processor without "
            "torchvision. Install torchvision, or a newer transformers."
        ) from error
    return _read(folder, reader)


def _read(folder: Path, reader: Callable[..., Any], **more: Any) -> Any:
    try:
        return reader(str(folder), local_files_only=True, trust_remote_code=False, **more)
    except Exception as error:  # what a damaged file ends in depends on the file
        raise ValueError(
            f"{folder.name} cannot be read ({reason(error)}). Download the folder again."
        ) from error
