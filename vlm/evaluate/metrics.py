"""What is measured: CLIP-I, CLIP-T, DINO and SSIM, one number for each result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageOps

from .image_models import PictureModel, read_tokenizer

CLIP_I, CLIP_T, DINO, SSIM = "CLIP-I", "CLIP-T", "DINO", "SSIM"
METRICS = {
    CLIP_I: "likeness to the reference: cosine of CLIP's image vectors",
    CLIP_T: "what the words ask for: cosine of CLIP's image and text vectors",
    DINO: "the same thing, not just the same kind: cosine of DINO's CLS states",
    SSIM: "the same structure in the same places: SSIM with the reference",
}
SMALLEST = 11  # pixels of a side: SSIM's window


@dataclass(frozen=True)
class Against:
    """What the results of a case are measured against.

    Attributes:
        prompt: The words; "" = none.
        references: RGB pictures, maybe none.
    """

    prompt: str
    references: Sequence[Image.Image]


class Measure(Protocol):
    """Something that gives numbers to results.

    Attributes:
        made_with: What it uses, for the record.
    """

    made_with: str

    @property
    def notes(self) -> list[str]:
        """Lines about what it could not see whole."""
        return []

    def __call__(self, against: Against, pictures: Sequence[Image.Image]) -> dict[str, list[float]]:
        """Metrics that the case has what for, each with a number for every picture."""
        ...


class Clip:
    """CLIP-I and CLIP-T; see `Measure`. Cosines, -1 to 1, as the papers' tables have them.

    Source: Ruiz et al., DreamBooth, section 4.2; several references are averaged over.
    """

    def __init__(self, folder: str | Path, device: torch.device):
        """Loads a CLIP model of transformers.

        Raises:
            FileNotFoundError, ValueError: As `PictureModel`.
        """
        self._seer = PictureModel(folder, {"clip": "CLIPModel"}, "--clip", device)
        self._tokenizer = read_tokenizer(Path(folder))
        self._longest = self._seer.model.config.text_config.max_position_embeddings
        self._cut = 0
        self.made_with = self._seer.name

    @property
    def notes(self) -> list[str]:
        """Whether prompts were cut."""
        if not self._cut:
            return []
        return [
            f"{CLIP_T}: {self._cut} prompts are longer than the {self._longest} tokens that "
            f"{self._seer.name} reads; it saw their beginnings"
        ]

    def __call__(self, against: Against, pictures: Sequence[Image.Image]) -> dict[str, list[float]]:
        """Measures; see `Measure`."""
        vectors = self._seer.embed([*pictures, *against.references], self._see)
        found, references = {}, vectors[len(pictures) :]
        vectors = vectors[: len(pictures)]
        if len(references):
            found[CLIP_I] = (vectors @ references.T).mean(1).tolist()
        if against.prompt:
            found[CLIP_T] = (vectors @ self._words(against.prompt)).tolist()
        return found

    def _see(self, pixels: torch.Tensor) -> torch.Tensor:
        return _features(self._seer.model.get_image_features(pixel_values=pixels))

    @torch.no_grad()
    def _words(self, prompt: str) -> torch.Tensor:
        """Unit vector [D] of a prompt."""
        self._cut += len(self._tokenizer(prompt, verbose=False).input_ids) > self._longest
        ids = self._tokenizer(
            prompt, truncation=True, max_length=self._longest, return_tensors="pt"
        ).to(self._seer.device)
        model = self._seer.model
        found = model.get_text_features(input_ids=ids.input_ids, attention_mask=ids.attention_mask)
        return torch.nn.functional.normalize(_features(found)[0].float().cpu(), dim=-1)


class Dino:
    """DINO: cosine of the CLS states, averaged over references; see `Measure`.

    Source: Ruiz et al., DreamBooth, section 4.2 (there with DINO's ViT-S/16, which is read too).
    """

    notes: list[str] = []  # it sees pictures whole

    def __init__(self, folder: str | Path, device: torch.device):
        """Loads a DINO model of transformers.

        Raises:
            FileNotFoundError, ValueError: As `PictureModel`.
        """
        kinds = {
            "dinov2": "Dinov2Model",
            "dinov2_with_registers": "Dinov2WithRegistersModel",
            "dinov3_vit": "DINOv3ViTModel",
            "vit": "ViTModel",
        }
        self._seer = PictureModel(folder, kinds, "--dino", device)
        self.made_with = self._seer.name

    def __call__(self, against: Against, pictures: Sequence[Image.Image]) -> dict[str, list[float]]:
        """Measures; see `Measure`."""
        if not against.references:
            return {}
        vectors = self._seer.embed([*pictures, *against.references], self._see)
        count = len(pictures)
        return {DINO: (vectors[:count] @ vectors[count:].T).mean(1).tolist()}

    def _see(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._seer.model(pixel_values=pixels).last_hidden_state[:, 0]


class Ssim:
    """SSIM by torchmetrics at its defaults, of RGB in 0..1; see `Measure`.

    A reference of another size is cropped around its middle to the result's shape and resized.

    Source: Wang et al., Image quality assessment, 2004: a Gaussian window of 11 pixels.
    """

    notes: list[str] = []

    def __init__(self) -> None:
        """Finds the package.

        Raises:
            ModuleNotFoundError: torchmetrics is not installed; says how it is.
        """
        try:
            import torchmetrics
            from torchmetrics.functional.image import structural_similarity_index_measure
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "SSIM needs the package torchmetrics: pip install .[train]", name=error.name
            ) from error
        self._ssim = structural_similarity_index_measure
        self.made_with = f"torchmetrics {torchmetrics.__version__}"

    def __call__(self, against: Against, pictures: Sequence[Image.Image]) -> dict[str, list[float]]:
        """Measures; see `Measure`."""
        if not against.references:
            return {}
        return {SSIM: [self._mean(each, against.references) for each in pictures]}

    def _mean(self, picture: Image.Image, references: Sequence[Image.Image]) -> float:
        fitted = [ImageOps.fit(each, picture.size, Image.Resampling.BICUBIC) for each in references]
        theirs = torch.stack([_pixels(each) for each in fitted])
        ours = _pixels(picture).expand_as(theirs)
        return torch.as_tensor(self._ssim(ours, theirs, data_range=1.0)).item()


def _features(found: object) -> torch.Tensor:
    """The projected vectors, which transformers 5 hands out with all else."""
    return found if isinstance(found, torch.Tensor) else found.pooler_output  # type: ignore


def _pixels(picture: Image.Image) -> torch.Tensor:
    """[3, H, W] float64 in 0..1: variances of plain grounds are differences of near equals."""
    values = np.asarray(picture.convert("RGB"), np.float64) / 255
    return torch.from_numpy(values).permute(2, 0, 1)
