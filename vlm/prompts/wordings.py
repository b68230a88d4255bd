"""What typed text is wrapped into before the model is asked, for trained connectors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    """What is shown up to and with a turn, beside its words.

    Attributes:
        pictures: How many.
        video: Whether there is one.
        sounds: How many.
    """

    pictures: int = 0
    video: bool = False
    sounds: int = 0


def _as_dict(items: dict[str, str | None], text: str) -> tuple[str, str, str]:
    """Python's `str()` of a dict, cut around the typed text, which is the item with None."""
    before, after, seen = [], [], False
    for key, value in items.items():
        if value is None:
            before.append(f"{key!r}: ")
            seen = True
        elif seen:
            after.append(f", {key!r}: {value!r}")
    return "{" + "".join(before), repr(text), "".join(after) + "}"


def x2i_node(text: str, edit: str | None, shown: Shown) -> tuple[str, str, str]:
    """X2I's released ComfyUI node: editing text "" unless given, "yes" with pictures or video."""
    image = "yes" if shown.pictures or shown.video else "no"
    keys = {"Text input": None, "Instruction editing description": edit or "", "image input": image}
    return _as_dict(keys, text)


def x2i_train(text: str, edit: str | None, shown: Shown) -> tuple[str, str, str]:
    """X2I's training script: editing text and pictures are "no" unless given."""
    image = "yes" if shown.pictures or shown.video else "no"
    keys = {
        "Text input": None,
        "Instruction editing description": edit or "no",
        "image input": image,
    }
    return _as_dict(keys, text)


def x2i_paper(text: str, edit: str | None, shown: Shown) -> tuple[str, str, str]:
    """X2I, section 13: five keys."""
    keys = {
        "text prompt": None,
        "editing prompt": edit or "",
        "image prompt": "yes" if shown.pictures else "no",
        "video prompt": "yes" if shown.video else "no",
        "audio prompt": "yes" if shown.sounds else "no",
    }
    return _as_dict(keys, text)


def x2i_internvl(text: str, edit: str | None, shown: Shown) -> tuple[str, str, str]:
    """X2I's InternVL script: two keys."""
    return _as_dict({"Text input": None, "Instruction editing description": edit or "no"}, text)


def describe(text: str, edit: str | None, shown: Shown) -> tuple[str, str, str]:
    """Qwen2VL-Flux: always the same words, unless others are typed.

    Its picture comes first and its attention is causal: the picture's tokens do not know them.
    """
    return ("", text, "") if text.strip() else ("Describe this image.", "", "")
