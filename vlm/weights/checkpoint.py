"""The weights of safetensors files in a model of transformers, without a second copy of them.

The model is built without weights, then the tensors of the mapped files become its parameters: they
are pages of the file until something writes to them, and only what is wanted in another dtype is
copied, one tensor at a time. The mapping is private, so nothing can change the file; but whoever
overwrites a file in place while it is loaded changes the model, as with every mapped file. (A file
that is replaced by another one, as downloads do, stays as it was for those who have it open.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..devices import multiplies
from ..families import Family
from ..logger import LOG
from . import experts, fp8
from .empty_model import build_empty
from .folder import open_whole
from .other_layouts import check_names, mlx_message
from .safetensors_header import Entry, read_header
from .tensor_names import our_name

DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    **fp8.DTYPES,
}


class Checkpoint:
    """Safetensors files, mapped, with their tensors under the names of transformers' base model.

    Attributes:
        where: What messages call it.
        names: All tensors by their names in the files.
        entries: The model's tensors by our name.
        theirs: Their names in the files.
        quantisation: How they are stored.
        written_for_mlx: Whether their headers say so; some of these are read all the same.
    """

    def __init__(self, where: Path, files: Sequence[Path], family: Family | None = None):
        """Opens the files; nothing but their headers is read.

        Args:
            where: What messages call it: the folder, or the file.
            files: All of them.
            family: Whose tensors they are; None = not known yet.

        Raises:
            ValueError: A damaged file, a tensor that is there twice, a quantisation that is not
                run here.
        """
        self.where = where
        self._family = family
        self._files: dict[str, Any] = {}
        self.names: dict[str, Entry] = {}
        metadata: dict[str, str] = {}
        for file in files:
            opened = open_whole(file)
            header = read_header(file)
            metadata |= header.metadata
            for name, entry in header.entries.items():
                if name in self.names:
                    raise ValueError(
                        f"{where} holds {name} twice, the second time in {file.name}. Files of "
                        "different downloads were mixed; download the folder again."
                    )
                self.names[name] = entry
                self._files[name] = opened
        check_names(self.names, where)
        self.written_for_mlx = metadata.get("format") == "mlx"
        self.theirs: dict[str, str] = {}
        self.entries: dict[str, Entry] = {}
        self.quantisation = fp8.Quantisation(str(where), list(self.names), metadata)
        for name, entry in self.names.items():
            self._add(name, entry)

    def _add(self, name: str, entry: Entry) -> None:
        if name.endswith(".comfy_quant"):
            self.quantisation.read_layer_mark(name, self.read(name))
        ours = our_name(name, self._family)
        if ours is None or fp8.is_mark(name):
            return
        if ours in self.theirs:
            raise ValueError(
                f"{self.where} holds both {self.theirs[ours]} and {name}, which are the same "
                "tensor. Two models were mixed; download it again."
            )
        self.theirs[ours], self.entries[ours] = name, entry

    def read(self, name: str) -> torch.Tensor:
        """A tensor by its name in the files: a view of the mapped file."""
        return self._files[name].get_tensor(name)

    @property
    def has_fp8(self) -> bool:
        """Whether a tensor of the model is fp8."""
        return any(entry.dtype in fp8.DTYPES for entry in self.entries.values())

    def own_dtype(self) -> torch.dtype:
        """The dtype that most numbers have; bfloat16 where they are fp8, to compute in."""
        if self.has_fp8:
            return torch.bfloat16
        counts: dict[str, int] = {}
        for entry in self.entries.values():
            counts[entry.dtype] = counts.get(entry.dtype, 0) + torch.Size(entry.shape).numel()
        return DTYPES[max(counts, key=counts.__getitem__)]


def load_model(
    checkpoint: Checkpoint,
    config: Any,
    family: Family,
    dtype: torch.dtype,
    device: torch.device,
    runs_on: torch.device | None = None,
) -> torch.nn.Module:
    """transformers' base model with the weights of a checkpoint.

    Weights stay fp8 where the device they run on can hold them, else they are converted.

    Args:
        checkpoint: Its files.
        config: transformers' own, of `folder.build_config`.
        family: Its family.
        dtype: Of the residual stream and of every weight that is not fp8.
        device: Where the weights go.
        runs_on: Where they will run; None = there.

    Returns:
        The model in eval mode, without its LM head, on `device`.

    Raises:
        ValueError: The tensors do not fit the config; says which.
    """
    model, own, wanted, turned = _fit(checkpoint, config, family, dtype)
    staying = _staying(checkpoint, dtype, runs_on or device)
    for name in wanted:
        owner, _, leaf = own[name].rpartition(".")
        layer = model.get_submodule(owner)
        _place(checkpoint, name, layer, leaf, dtype, device, staying)
        if name in turned:  # a view: the weight stays where it is
            weight = layer._parameters[leaf].transpose(1, 2)
            layer._parameters[leaf] = torch.nn.Parameter(weight, requires_grad=False)
    return model.eval().to(device)  # what is left to move are the buffers


def check_fits(checkpoint: Checkpoint, config: Any, family: Family) -> None:
    """Compares the names and sizes in a checkpoint with its config; no weight is read.

    Args:
        checkpoint: Its files.
        config: transformers' own, of `folder.build_config`.
        family: Its family.

    Raises:
        ValueError: The tensors do not fit the config; says which.
    """
    _fit(checkpoint, config, family, torch.float32)


def _fit(
    checkpoint: Checkpoint, config: Any, family: Family, dtype: torch.dtype
) -> tuple[torch.nn.Module, dict[str, str], dict[str, tuple[int, ...]], list[str]]:
    """An empty model, its own names by ours, the shapes wanted, and what is stored turned."""
    largest = max((math.prod(entry.shape) for entry in checkpoint.names.values()), default=0)
    model = build_empty(config, family, checkpoint.where, dtype, largest)
    tensors = model.state_dict()
    # By our names, the names of this version of transformers.
    own = {ours: name for name in tensors if (ours := our_name(name, family)) is not None}
    wanted = {name: tuple(tensors[own[name]].shape) for name in own}
    stored = {name: tuple(entry.shape) for name, entry in checkpoint.entries.items()}
    turned = experts.find_turned(stored, wanted)
    try:
        _check(checkpoint, wanted | experts.swap(wanted, turned), family)
    except ValueError as error:
        if checkpoint.written_for_mlx:
            raise ValueError(mlx_message(checkpoint.where)) from error
        raise
    return model, own, wanted, turned


def _check(checkpoint: Checkpoint, wanted: dict[str, tuple[int, ...]], family: Family) -> None:
    """Refuses a checkpoint of which anything is missing, left over or of another size."""
    where, entries = checkpoint.where, checkpoint.entries
    missing = sorted(wanted.keys() - entries.keys())
    if missing:
        raise ValueError(
            f"The weights in {where} lack {len(missing)} tensors of {family.title}, the first is "
            f"{missing[0]}. Download the files of the model again."
        )
    for name, entry in sorted(entries.items()):
        if entry.dtype not in DTYPES:
            raise checkpoint.quantisation.refusal(checkpoint.theirs[name], entry.dtype)
    strange = sorted(checkpoint.theirs[name] for name in entries.keys() - wanted.keys())
    if strange:
        raise ValueError(
            f"The weights in {where} hold {len(strange)} tensors that a {family.title} of this "
            f"config.json does not have, the first is {strange[0]}. Files of different models "
            "were mixed; download them again."
        )
    other = [name for name in sorted(wanted) if entries[name].shape != wanted[name]]
    if other:
        first = other[0]
        raise ValueError(
            f"In {where} {len(other)} tensors have another size than config.json says, the first "
            f"is {checkpoint.theirs[first]}: {list(entries[first].shape)}, expected "
            f"{list(wanted[first])}. Files of different models were mixed; download them again."
        )


def _staying(
    checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device
) -> frozenset[torch.dtype]:
    """The fp8 dtypes of a checkpoint that a device can hold; warns of those that it cannot."""
    names = {entry.dtype for entry in checkpoint.entries.values()} & fp8.DTYPES.keys()
    stored = {fp8.DTYPES[name] for name in names}
    staying = frozenset(one for one in stored if multiplies(device, dtype, one))
    for one in sorted(map(str, stored - staying)):
        LOG.warning(
            "%s holds %s weights, which %s cannot hold here: they are converted to %s, which takes "
            "twice their memory or more. Choose the CPU, or a newer torch, to keep them fp8.",
            checkpoint.where,
            one.removeprefix("torch."),
            device,
            str(dtype).removeprefix("torch."),
        )
    return staying


def _place(
    checkpoint: Checkpoint,
    name: str,
    layer: torch.nn.Module,
    leaf: str,
    dtype: torch.dtype,
    device: torch.device,
    staying: frozenset[torch.dtype],
) -> None:
    """Makes a tensor of the files the parameter of a layer; fp8 where it is `staying`."""
    theirs = checkpoint.theirs[name]
    stored = checkpoint.read(theirs)
    if stored.dtype not in fp8.DTYPES.values():
        tensor = stored.to(device, dtype)
    else:
        scale, quantisation = 1.0, checkpoint.quantisation
        linear = isinstance(layer, torch.nn.Linear) and leaf == "weight"
        layer_name = theirs.removesuffix(".weight")
        scale_name = quantisation.scale_name(layer_name, checkpoint.entries[name], linear)
        if scale_name is not None:
            scale = quantisation.scale_of(scale_name, checkpoint.read(scale_name))
        if leaf == "weight" and stored.dtype in staying and fp8.can_stay(layer, name):
            fp8.keep(layer, scale, dtype)
            tensor = stored.to(device)
        else:
            tensor = fp8.dequantise(stored, scale, dtype).to(device)
    layer._parameters[leaf] = torch.nn.Parameter(tensor, requires_grad=False)
