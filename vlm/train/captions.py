"""Captions out of text files, JSON Lines, Parquet and WebDataset, through `datasets`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..files.inside import is_inside
from ..pictures.media_files import natural_order
from ..quoted import reason, told

# Ending of a file to what `datasets` calls its kind.
KINDS = {
    ".txt": "text",
    ".jsonl": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".tar": "webdataset",
}
LONGEST = 100_000  # characters of a caption: what is longer is another column


class Caption(NamedTuple):
    """A caption and where it stands.

    Attributes:
        text: Without blanks around it.
        where: For messages.
        picture: A file's path or its bytes; None where no pictures are asked for.
    """

    text: str
    where: str
    picture: str | bytes | None = None


def caption_of(row: dict[str, Any]) -> Caption:
    """The caption in a row of `Captions.rows`, which may have columns of its file beside."""
    return Caption(row["text"], row["where"], row["picture"])


class Captions:
    """The captions of a file or a folder, read one after another and checked as they come."""

    def __init__(self, place: str | Path, key: str = "caption", picture_key: str = ""):
        """Finds the files; nothing is read yet.

        Args:
            place: A file, or a folder of files of one kind.
            key: Column of a table, key of an object, or ending of a file in a WebDataset, with a
                dot before a key inside it (`json.caption`). Text files need none.
            picture_key: The same of pictures: files in the captions' folder, or bytes; empty =
                captions alone.

        Raises:
            FileNotFoundError: There is nothing.
            ValueError: No file of captions, or of several kinds; text files have no pictures.
        """
        self.place, self.key, self.picture_key = Path(place), key, picture_key
        self.files = _find_files(self.place)
        self.kind = KINDS[self.files[0].suffix.lower()]
        if picture_key and self.kind == "text":
            raise ValueError(
                f"{place} holds words alone, and this recipe needs a picture beside each. Give "
                "them as JSON Lines, Parquet or WebDataset."
            )

    def rows(self) -> Any:
        """A streamed `datasets.IterableDataset` of captions' fields, bad ones refused.

        Raises:
            ValueError: As `read`, once it is read.
        """
        datasets = import_datasets()
        try:
            rows = datasets.load_dataset(
                self.kind, data_files=[str(f) for f in self.files], split="train", streaming=True
            )
        except Exception as error:  # what a damaged file ends in depends on its kind
            raise self._unreadable(error) from error
        if self.kind == "text":
            rows = rows.filter(lambda row: bool(row["text"].strip()))
        columns = rows.column_names
        for name, kind in (rows.features or {}).items():
            if isinstance(kind, datasets.Image):  # what nobody looks at is not decoded
                rows = rows.cast_column(name, datasets.Image(decode=False))
        return rows.map(self._caption, with_indices=True, remove_columns=columns)

    def read(self) -> Iterator[Caption]:
        """The captions in order.

        Raises:
            ValueError: A file that is cut short or damaged; a row without a caption, or with
                something else; names file or row. No caption at all.
        """
        found = False
        try:
            for row in self.rows():
                found = True
                yield caption_of(row)
        except BadCaption:
            raise
        except Exception as error:  # as above, now that it is read
            raise self._unreadable(error) from error
        if not found:
            raise ValueError(f"{self.place} holds no caption. Write one a line.")

    def _caption(self, row: dict[str, Any], index: int) -> dict[str, Any]:
        name = row.get("__key__", "")
        where = f"caption {index + 1} of {self.place.name}" + (f" ({name})" if name else "")
        value = row["text"] if self.kind == "text" else self._field(row, where, "caption")
        if isinstance(value, bytes):
            value = value.decode("utf-8", errors="replace")
        if not isinstance(value, str) or not value.strip() or len(value) > LONGEST:
            kind = type(value).__name__
            said = f"{len(value)} characters" if isinstance(value, str) else f"no text ({kind})"
            raise BadCaption(
                f"The {where} is {said}, expected 1 to {LONGEST} characters of text. Mend the row "
                "or leave it out."
            )
        picture = self._picture(row, where) if self.picture_key else None
        return {"text": value.strip(), "where": where, "picture": picture}

    def _field(self, row: dict[str, Any], where: str, what: str) -> Any:
        """What a row holds of a kind: caption or picture."""
        key = self.key if what == "caption" else self.picture_key
        value: Any = row
        known = ", ".join([told(each) for each in row if not each.startswith("__")][:20])
        for part in key.split(".") if self.kind == "webdataset" else (key,):
            if not isinstance(value, dict) or part not in value:
                raise BadCaption(
                    f"The {where} has no {key}, it has {known}. Set {what}_key to one of these."
                )
            value = value[part]
        return value

    def _picture(self, row: dict[str, Any], where: str) -> str | bytes:
        """A file's path or bytes."""
        value = self._field(row, where, "picture")
        if isinstance(value, dict):  # as `datasets` holds a picture that is not decoded
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes) and value:
            return value
        root = self.files[0].parent
        if not isinstance(value, str) or not is_inside(root / value, root):
            raise BadCaption(
                f"The picture of {where} is neither bytes nor the name of a file in {root}. Mend "
                "the row or leave it out."
            )
        return str(root / value)

    def _unreadable(self, error: Exception) -> ValueError:
        files = self.files[0].name if len(self.files) == 1 else f"A file of {self.place.name}"
        return ValueError(
            f"{files} cannot be read as {self.kind} ({reason(error)}). It is damaged or was cut "
            "short; write or download it again."
        )


class BadCaption(ValueError):
    """A row that holds no caption."""


def digest_of(captions: Iterable[Caption]) -> str:
    """SHA-256 of the texts of captions in order, hexadecimal; of pictures names or bytes, too."""
    digest = hashlib.sha256()
    for caption in captions:
        digest.update(caption.text.encode() + b"\0")
        if caption.picture is not None:
            name = caption.picture
            digest.update(Path(name).name.encode() if isinstance(name, str) else name)
    return digest.hexdigest()


def import_datasets() -> Any:
    """The package `datasets`, which only training needs.

    Raises:
        ModuleNotFoundError: It is not installed; says how it is.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Training needs the package datasets. Install what it takes: pip install .[train]",
            name=error.name,
        ) from error
    datasets.disable_progress_bars()
    return datasets


def _find_files(place: Path) -> list[Path]:
    if place.is_file():
        files = [place]
    elif place.is_dir():
        files = [file for file in place.iterdir() if file.suffix.lower() in KINDS]
        files.sort(key=natural_order)
    else:
        raise FileNotFoundError(f"There are no captions at {place}. Name a file or a folder.")
    endings = sorted({file.suffix.lower() for file in files})
    known = ", ".join(KINDS)
    if not endings or endings[0] not in KINDS:
        raise ValueError(f"{place} holds no captions. They are read from {known}.")
    if len({KINDS[ending] for ending in endings}) > 1:
        raise ValueError(
            f"{place} holds {' and '.join(endings)}, captions come from files of one kind. Name "
            "one file, or a folder of one kind."
        )
    return files
