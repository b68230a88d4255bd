"""Which models can be fetched: one revision each, every file with its size and its checksum.

They are data, `pins.json`. Sizes and sha256 of the weights are those that the Hub names, those of
the small files what people who fetched the revision published; each was found in more than one
place. A file that differs is not taken: a wrong pin refuses a good file and lets no bad one in.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from ..weights.folder import check_tokenizer, check_weights, open_whole, read_config

_FILE = Path(__file__).with_name("pins.json")
PARTS = ".download"
GIGABYTE = 1e9  # as the Hub's pages and the sellers of disks count


@dataclass(frozen=True)
class PinnedFile:
    """One file of a repository.

    Attributes:
        path: In the repository, with forward slashes.
        size: Bytes.
        sha256: Of its bytes, 64 hexadecimal digits.
    """

    path: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """Without the repository's folders."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Pin:
    """A model that can be fetched.

    Attributes:
        name: As VLM Loader shows it and workflows save it: a folder below ComfyUI's models, or one
            file.
        serves: Which diffusion models read it.
        repo: Its repository on the Hub.
        revision: The commit, 40 hexadecimal digits.
        files: All that is fetched, in this order; config.json last, so that a folder shows up when
            it is whole.
    """

    name: str
    serves: str
    repo: str
    revision: str
    files: tuple[PinnedFile, ...]

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder with all its files; otherwise it is its only file."""
        return not self.name.endswith(".safetensors")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def target(self, place: Path, file: PinnedFile) -> Path:
        """Where a file ends up.

        Args:
            place: The folder, or the file, that `name` means here.
            file: One of `files`.
        """
        return place / file.name if self.is_folder else place

    def part(self, place: Path, file: PinnedFile) -> Path:
        """Where a file lies while it comes; what is left there is gone on with."""
        folder = place if self.is_folder else place.parent
        return folder / PARTS / f"{file.name}.{file.sha256[:12]}.part"

    def lacking(self, place: Path) -> list[PinnedFile]:
        """The files that are missing or have another size; none where the model is whole.

        A folder that holds a whole model under this name is somebody's choice, whatever its files
        are, and lacks nothing.
        """
        if not place.exists():  # as it mostly is; asked for with each list of models
            return list(self.files)
        files = [file for file in self.files if _size(self.target(place, file)) != file.size]
        state = _state(place) if files else ()
        return [] if state and _is_whole(place, self.is_folder, state) else files

    def to_come(self, place: Path) -> int:
        """Bytes that a download would bring now, without the parts that have come already."""
        lacking = self.lacking(place)
        size = sum(file.size for file in lacking)
        if not lacking or not self.part(place, lacking[0]).parent.is_dir():
            return size
        return size - sum(min(file.size, max(0, _size(self.part(place, file)))) for file in lacking)


def read_pins(file: Path) -> dict[str, Pin]:
    """Pins by their name, as a file holds them."""
    content = json.loads(file.read_text(encoding="utf-8"))
    return {
        one["name"]: Pin(
            one["name"],
            one["for"],
            one["repo"],
            one["revision"],
            tuple(PinnedFile(path, **about) for path, about in one["files"].items()),
        )
        for one in content
    }


@functools.cache
def pins() -> dict[str, Pin]:
    """The models that can be fetched, by their name."""
    return read_pins(_FILE)


def gigabytes(size: int) -> str:
    """`8.9 GB`; under a tenth of one in MB."""
    return f"{size / GIGABYTE:.1f} GB" if size >= GIGABYTE / 10 else f"{size / 1e6:.1f} MB"


def _state(place: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when a folder's files or a file do; empty where there is nothing."""
    try:
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        return tuple((each.name, (s := each.stat()).st_mtime_ns, s.st_size) for each in files)
    except OSError:
        return ()


@functools.lru_cache(maxsize=16)  # a list is asked for at every check of a queued prompt
def _is_whole(place: Path, is_folder: bool, state: tuple[tuple[str, int, int], ...]) -> bool:
    """Whether a place holds a whole model, whatever it is; asked once for each state."""
    try:
        if is_folder:
            read_config(place)
            check_tokenizer(place)
            check_weights(place)
        else:
            open_whole(place)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else -1
    except OSError:
        return -1
