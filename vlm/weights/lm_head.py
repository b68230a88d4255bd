"""The LM head of a model of transformers, which stays in its files until the model writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from . import fp8
from .checkpoint import Checkpoint

NAMES = (
    "lm_head.weight", "model.lm_head.weight", "language_model.lm_head.weight",
    "thinker.lm_head.weight",
)  # fmt: skip


class LMHead:
    """An LM head with weights of its own: not the embeddings a second time."""

    def __init__(self, where: Path, files: Checkpoint | None):
        """Remembers where it lies; nothing is read.

        Args:
            where: What messages call the model.
            files: Its files; None = saved in a quantisation that is not read tensor by tensor.
        """
        self.where = where
        self._files = files
        self._kept: torch.Tensor | None = None

    def weight(self, rows: int, width: int, dtype: torch.dtype) -> torch.Tensor:
        """Its weight; pages of the file as long as the dtype is the file's.

        Args:
            rows: Token ids that the model knows.
            width: D.
            dtype: Wanted.

        Returns:
            [rows, width] on the CPU, or where `keep` was told to keep it.

        Raises:
            ValueError: It is not in the files, or does not belong to this model.
        """
        if self._kept is not None:
            return self._kept
        if self._files is None:
            raise ValueError(
                f"{self.where} was saved quantised, and its LM head cannot be read from there, so "
                "it cannot write. Load the folder that is not quantised and set `quantize`."
            )
        files = self._files
        name = _name_in(files)
        if name is None:
            raise ValueError(
                f"{self.where} holds no LM head (lm_head.weight), so it can encode but not write. "
                "Load the folder of the whole model."
            )
        entry, layer = files.names[name], name.removesuffix(".weight")
        if entry.shape != (rows, width):
            raise ValueError(
                f"The tensor {name} in {self.where} is {list(entry.shape)}, expected "
                f"{[rows, width]}. Files of different models were mixed; download them again."
            )
        quantisation = files.quantisation
        scale_name = quantisation.scale_name(layer, entry, linear=True)
        scale = 1.0
        if scale_name is not None:
            scale = quantisation.scale_of(scale_name, files.read(scale_name))
        return fp8.dequantise(files.read(name), scale, dtype)

    def keep(self, rows: int, width: int, dtype: torch.dtype) -> None:
        """Reads it into memory and lets go of the files, for files that go."""
        self._kept = self.weight(rows, width, dtype).clone()
        self._files = None  # an open file stays mapped; on Windows its folder cannot be removed


class FileHead:
    """The LM head in a single file whose other weights somebody else has read."""

    def __init__(self, file: Path):
        """Remembers the file; nothing is read."""
        self.file = file

    def weight(self, rows: int, width: int) -> torch.Tensor:
        """Its weight, in the dtype of the file; bfloat16 where that is fp8.

        Args:
            rows: Token ids that the model knows.
            width: D.

        Returns:
            [rows, width] on the CPU.

        Raises:
            ValueError: It is not in the file, or stored as it is not read here.
        """
        files = Checkpoint(self.file, [self.file])
        return LMHead(self.file, files).weight(rows, width, files.own_dtype())


def find_head(where: Path, config: dict[str, Any], files: Checkpoint | None) -> LMHead | None:
    """The LM head of a model; None where the embeddings are the LM head as well.

    Args:
        where: What messages call the model.
        config: Content of config.json; where it says nothing, or two things, the files tell.
        files: The model's files; None = they are not read tensor by tensor.
    """
    both = [part.get("tie_word_embeddings") for part in (config, config.get("text_config") or {})]
    said = {bool(one) for one in both if one is not None}
    tied = said.pop() if len(said) == 1 else files is None or _name_in(files) is None
    return None if tied else LMHead(where, files)


def _name_in(files: Checkpoint) -> str | None:
    return next((name for name in NAMES if name in files.names), None)
