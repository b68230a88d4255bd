"""What VLM Loader can fetch: how it is listed, what its label says, and the fetching itself."""

from __future__ import annotations

from pathlib import Path

from ..vlm.download.fetch import fetch
from ..vlm.download.pins import Pin, gigabytes, pins
from . import folders
from .devices import Bar
from .shown import tell

LABELS = "vlmc_labels"  # what web/download.js reads


def names() -> list[str]:
    """Names of models that can be fetched and are not listed yet."""
    there = folders.models()
    return [name for name, pin in pins().items() if name not in there and _lacks(pin)]


def labels() -> dict[str, str]:
    """What the list shows in place of a name, for models of which something is missing."""
    return {name: _label(pin) for name, pin in pins().items() if _lacks(pin)}


def what_it_does() -> str:
    """The widget's tooltip: which models, from where, how large, where to."""
    each = "; ".join(
        f"{pin.name} from {pin.repo} ({gigabytes(pin.size)})" for pin in pins().values()
    )
    return (
        "On = a run first fetches what the chosen model lacks from huggingface.co, one checked "
        f"revision and nothing else, into ComfyUI's models folder: {each}. Other models are never "
        "fetched. It is not saved in workflows: each time you open one it is off."
    )


def place_of(pin: Pin) -> Path:
    """The folder or file that a pin's name means here: where it is listed, else below models/."""
    listed = folders.models().get(pin.name)
    if listed is not None:
        return listed
    top, _, rest = pin.name.partition("/")
    return Path(folders.model_places(top)[0]) / rest


def find_model(name: str, download: bool) -> Path | None:
    """A model's place, checked when it is queued and again when it runs.

    Args:
        name: As VLM Loader saves it.
        download: Whether what is missing may be fetched.

    Returns:
        None where it is to be fetched first.

    Raises:
        FileNotFoundError: It is not there, or not all of it, and may or can not be fetched.
        ValueError: A file that is there but holds no VLM.
    """
    pin = pins().get(name)
    if pin is None or not _lacks(pin):
        return folders.model_path(name) if pin is None else place_of(pin)
    if download:
        return None
    raise FileNotFoundError(
        f"{_missing(pin)}. Turn on `download` on VLM Loader to have it fetched from "
        f"huggingface.co/{pin.repo} (revision {pin.revision[:12]}) into {place_of(pin)}, or put "
        "it there by hand."
    )


def bring(name: str) -> tuple[Path, int]:
    """Fetches what a model that can be fetched lacks; shows how far it is, and stops on Cancel.

    Returns:
        Its place, and the bytes that were fetched.
    """
    pin = pins()[name]
    place, bar = place_of(pin), Bar()

    def report(done: int, total: int, line: str) -> None:
        tell(line)
        bar.move(done, total)

    try:
        size = fetch(pin, place, report)
    finally:
        folders.forget_models()
    return place, size


def _lacks(pin: Pin) -> bool:
    return bool(pin.lacking(place_of(pin)))


def _missing(pin: Pin) -> str:
    place = place_of(pin)
    lacking, size = pin.lacking(place), gigabytes(pin.to_come(place))
    if len(lacking) == len(pin.files):
        return f"{pin.name} is not there yet ({size})"
    return f"{pin.name} lacks {len(lacking)} of {len(pin.files)} files ({size})"


def _label(pin: Pin) -> str:
    place = place_of(pin)
    some = pin.lacking(place)
    what = "not there yet" if len(some) == len(pin.files) else f"{len(some)} files missing"
    return f"{pin.name} — {what}: download {gigabytes(pin.to_come(place))} ({pin.serves})"
