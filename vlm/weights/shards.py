"""The shards of one model: found as their index or their names say, every tensor accounted for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files.json_file import read_json
from ..files.names import path_problem
from ..quoted import told
from .safetensors_header import read_header

ENDING = ".safetensors"
INDEX_ENDING = ".safetensors.index.json"
NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.safetensors")
TRANSFORMER = "transformer"  # the folder of a diffusers pipeline that holds the diffusion model


@dataclass(frozen=True)
class StoredTensor:
    """One tensor where it lies.

    Attributes:
        name: Its name.
        dtype: The format's own name, such as `BF16`.
        shape: Its shape.
        file: The shard that holds it.
        start: Its first byte in that file.
        size: Its bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    size: int


def find_shards(source: Path) -> list[StoredTensor]:
    """The tensors of a model that lies in one or several safetensors files.

    Args:
        source: An index (`*.safetensors.index.json`), or a folder with one, with numbered shards or
            with a single file; of a diffusers pipeline its folder `transformer` is taken.

    Returns:
        All tensors, in the order of the files and of their bytes.

    Raises:
        FileNotFoundError: There is none, or a shard is missing.
        ValueError: Shards of two models, a damaged or cut file, a tensor twice, one that the index
            names and no shard holds, or the other way round.
    """
    index = source if source.name.endswith(INDEX_ENDING) else _index_of(_folder_of(source))
    if index is None:
        return _tensors_of(_without_index(_folder_of(source)))
    if not index.is_file():
        raise FileNotFoundError(f"{index} is not there. Check the path.")
    places = read_index(index)
    lacking = [name for name in sorted(set(places.values())) if not (index.parent / name).is_file()]
    if lacking:
        raise FileNotFoundError(
            f"{index.parent} lacks {_some(lacking)}, which {index.name} names. Download the "
            "missing files."
        )
    tensors = _tensors_of([index.parent / name for name in sorted(set(places.values()))])
    _check_index(index, places, tensors)
    return tensors


def _folder_of(source: Path) -> Path:
    if not source.is_dir():
        raise FileNotFoundError(
            f"{source} is neither a folder nor an index ({INDEX_ENDING}). Name the folder that "
            "holds the shards."
        )
    inside = source / TRANSFORMER
    return inside if (source / "model_index.json").is_file() and inside.is_dir() else source


def _index_of(folder: Path) -> Path | None:
    found = sorted(folder.glob(f"*{INDEX_ENDING}"))
    if len(found) > 1:
        raise ValueError(
            f"{folder} holds {len(found)} indexes ({_some([one.name for one in found])}), expected "
            "one model. Name the index to take."
        )
    return found[0] if found else None


def _without_index(folder: Path) -> list[Path]:
    """Numbered shards, all of them, or the one file of a folder."""
    files = sorted(folder.glob(f"*{ENDING}"))
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no safetensors file. Name the folder of the diffusion model; weights "
            "in .bin files are not joined."
        )
    parts = [NUMBERED.fullmatch(file.name) for file in files]
    if len(files) == 1 and parts[0] is None:
        return files
    models = {(part["stem"], int(part["total"])) for part in parts if part}
    if len(models) != 1 or None in parts:
        raise ValueError(
            f"{folder} holds files of more than one model ({_some([f.name for f in files])}) and "
            "no index that says which belong together. Leave one model in the folder."
        )
    ((stem, total),) = models
    wanted = [f"{stem}-{number:05}-of-{total:05}{ENDING}" for number in range(1, total + 1)]
    there = {file.name for file in files}
    lacking = [name for name in wanted if name not in there]
    if lacking or len(there) != len(wanted):
        raise FileNotFoundError(
            f"{folder} lacks {_some(lacking or wanted)}, of {total} shards. Download the missing "
            "files."
        )
    return files


def read_index(index: Path) -> dict[str, str]:
    """The file of every tensor, as an index lists them.

    Raises:
        ValueError: A damaged index, or one that points outside its folder.
    """
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f"{index} lists no files. Download it again.")
    for file in listed.values():
        if not isinstance(file, str) or not _is_name(file):
            raise ValueError(
                f"{index} names {told(file)}, expected files of the same folder. "
                "Download it again from the model's own repository."
            )
    return listed


def _is_name(file: str) -> bool:
    """Whether it is the name of a file and leads nowhere else."""
    plain = Path(file).name == file and "\\" not in file and file != ".."
    return bool(file) and plain and path_problem(file) is None


def _tensors_of(files: Sequence[Path]) -> list[StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        for tensor in _tensors_in(file):
            if tensor.name in tensors:
                raise ValueError(
                    f"{file.name} and {tensors[tensor.name].file.name} both hold "
                    f"{told(tensor.name)}. Files of different downloads were mixed; download the "
                    "folder again."
                )
            tensors[tensor.name] = tensor
    return list(tensors.values())


def _tensors_in(file: Path) -> list[StoredTensor]:
    header = read_header(file)
    found = [
        StoredTensor(name, entry.dtype, entry.shape, file, header.data + entry.start, entry.size)
        for name, entry in header.entries.items()
    ]
    found.sort(key=lambda tensor: tensor.start)
    end = header.data
    for tensor in found:
        if tensor.start != end:
            raise ValueError(f"{file} has a gap before {told(tensor.name)}. Download it again.")
        end += tensor.size
    size = file.stat().st_size
    if size != end:
        raise ValueError(
            f"{file} has {size} bytes, its header says {end}. The download was cut short or mixed; "
            "download it again."
        )
    return found


def _check_index(index: Path, places: dict[str, str], tensors: Sequence[StoredTensor]) -> None:
    held = {tensor.name: tensor.file.name for tensor in tensors}
    lost = [name for name, file in places.items() if held.get(name) != file]
    strange = [name for name in held if name not in places]
    if lost or strange:
        what = (
            f"names {_some(lost)}, which its file does not hold"
            if lost
            else f"does not name {_some(strange)}, which its files hold"
        )
        raise ValueError(
            f"{index} {what}. Files of different downloads were mixed; download the folder again."
        )


def _some(names: Sequence[str]) -> str:
    """The first names of many."""
    more = len(names) - 3
    return ", ".join(map(told, names[:3])) + (f" and {more} more" if more > 0 else "")
