"""Reference statistics in numpy's ``.npz``, as the Qwen3-VL × Z-Image research keeps them."""

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..quoted import reason, told

# As the research's file calls them; others may use our words.
_NAMES = {"per_dim_mean": "mean", "per_dim_std": "std", "global_std": "global_std"}
LARGEST = 2**24  # bytes of one array: 53 248 dimensions in float64 are 0.4 MB
EXPECTED = "Expected per_dim_mean and per_dim_std, arrays of one number per dimension."


def read_npz(path: Path) -> dict[str, Any]:
    """Reads mean, std and, if there, the std of all values. Nothing is unpickled.

    Args:
        path: An ``.npz`` with ``per_dim_mean`` and ``per_dim_std`` (or ``mean`` and ``std``).

    Returns:
        ``{"mean": [D], "std": [D]}`` and perhaps ``"global_std"``.

    Raises:
        ValueError: Not such a file, or arrays of objects or of an absurd size.
    """
    found: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            there = {name.removesuffix(".npy") for name in archive.namelist()}
            for theirs, ours in _NAMES.items():
                name = theirs if theirs in there else ours
                if name in there:
                    with archive.open(f"{name}.npy") as file:
                        found[ours] = _read_array(file, f"{name} in {path.name}")
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{path.name} cannot be read as .npz ({reason(error)}). {EXPECTED}"
        ) from error
    if not {"mean", "std"} <= set(found):
        some = ", ".join(map(told, sorted(there)[:5])) or "nothing"
        raise ValueError(f"{path.name} holds no statistics but {some}. {EXPECTED}")
    if "global_std" in found:
        if found["global_std"].size != 1:
            raise ValueError(f"global_std in {path.name} is not one number. {EXPECTED}")
        found["global_std"] = float(found["global_std"].reshape(()))
    return found


def _read_array(file: IO[bytes], name: str) -> np.ndarray:
    """An array of numbers; its header is read before room is made for it."""
    form = np.lib.format
    readers = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}
    try:
        shape, _, dtype = readers[form.read_magic(file)](file)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{name} is no array of numpy's ({reason(error)}). {EXPECTED}") from error
    if dtype.kind not in "fiu":
        raise ValueError(f"{name} is of {dtype}, expected numbers. {EXPECTED}")
    size = math.prod(shape) * dtype.itemsize
    if size > LARGEST:
        raise ValueError(f"{name} is {list(shape)}, too large for statistics. {EXPECTED}")
    data = file.read(size)
    if len(data) < size:
        raise ValueError(f"{name} ends early. {EXPECTED}")
    return np.frombuffer(data, dtype).reshape(shape).astype(np.float64)
