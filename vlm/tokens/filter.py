"""Token filter: which tokens go on, by what they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from ..arguments import checked
from ..quoted import told
from ..token_map import ROLES, count_roles, turn_column
from .tokens import Tokens

if TYPE_CHECKING:
    from ..running.hidden_states import HiddenStates

# Tokens or HiddenStates: both have n, token_map and take.
T = TypeVar("T", "Tokens", "HiddenStates")

KEEP_PRESETS: dict[str, tuple[str, ...]] = {
    "all": ROLES,
    "text": tuple(
        role for role in ROLES if role not in ("image", "vision_marker", "audio", "audio_marker")
    ),
    "prompt": ("text",),
    "image": ("image",),
    "image+markers": ("image", "vision_marker"),
    "generated": ("generated", "image"),
    "audio": ("audio",),
}
_OF_AN_IMAGE = ("image", "vision_marker")


def keep_roles(keep: str | Iterable[str]) -> tuple[str, ...]:
    """The roles that ``keep`` stands for.

    Args:
        keep: the name of a preset (``KEEP_PRESETS``), or a tuple or list of roles. The string
            ``"text"`` is the preset (everything but images, sounds and their markers); the role is
            ``("text",)``, or the preset ``"prompt"``.

    Raises:
        ValueError: an unknown preset or role, or no role at all.
    """
    if isinstance(keep, str):
        if keep not in KEEP_PRESETS:
            raise ValueError(
                f"There is no `keep` {told(keep)}. Presets: {', '.join(KEEP_PRESETS)}; "
                f"or a tuple of roles out of {', '.join(ROLES)}."
            )
        return KEEP_PRESETS[keep]
    roles = tuple(keep)
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles:
        what = f"`keep` has no role {told(unknown[0])}" if unknown else "`keep` names no role"
        raise ValueError(f"{what}. Roles: {', '.join(ROLES)}.")
    return roles


@checked
def filter_tokens(
    t: T,
    keep: str | Iterable[str] = "text",
    images: int | Iterable[int] | None = None,
    drop_first: int = 0,
    turns: int | Iterable[int] | None = None,
) -> T:
    """Keep the tokens of some roles; what remains keeps its map.

    "Text tokens only" is what the Qwen3-VL × Z-Image research recommends: they have the statistics
    of the target's own encoder, image tokens do not. Its author later wrote that it "does nothing",
    and took all tokens.

    Args:
        t: Tokens ``[B, N, D]`` with a token map (``keep="all"`` works without), or hidden states:
            then every layer keeps the same tokens, and nothing is run or copied.
        keep: a preset or a tuple of roles, see ``keep_roles``.
        images: image numbers from 0; of the kept image and vision_marker tokens only those of these
            images stay. Other roles are not touched. None: all images.
        drop_first: drops the first so many of the *kept* tokens (0 = none), whatever their role.
        turns: turns of a conversation from 0, the prompt's last; only tokens of these stay,
            whatever their role. None: all turns.

    Returns:
        Of the kind that came in: ``[B, K, D]`` in the input's dtype, or hidden states of the K
        tokens; ``t`` itself if every token stays.

    Raises:
        ValueError: no token map, an unknown preset, role, image or turn, or nothing left.
    """
    roles = keep_roles(keep)
    if isinstance(drop_first, bool) or not isinstance(drop_first, int) or drop_first < 0:
        raise ValueError(f"drop_first is a number of tokens from 0, this is {told(drop_first)}.")
    if t.token_map is None:
        if set(roles) != set(ROLES) or images is not None or turns is not None:
            raise ValueError(_no_map(keep, images))
        kept = list(range(t.n))
    else:
        kept = _kept_indices(t.token_map, roles, _image_numbers(t.token_map, roles, images))
        kept = _of_turns(t.token_map, kept, turns)
    kept = kept[drop_first:]
    if not kept:
        raise ValueError(_nothing_left(t, keep, images, drop_first))
    if len(kept) == t.n:
        return t
    return t.take(kept)


def _image_numbers(
    token_map: dict, roles: tuple[str, ...], images: int | Iterable[int] | None
) -> set[int] | None:
    """``images`` as a set that exists in the map; None where it restricts nothing."""
    if images is None or not set(roles) & set(_OF_AN_IMAGE):
        return None
    wanted = _numbers(images)
    there = sorted({i for i in token_map["image"] if i >= 0})
    missing = sorted(wanted - set(there))
    if missing:
        have = f"images {', '.join(map(str, there))}" if there else "no images"
        raise ValueError(
            f"Image {missing[0]} does not exist: these tokens have {have} (counted from 0). "
            "Set `images` to one of them, or leave it empty for all."
        )
    return wanted


def _numbers(given: int | Iterable[int]) -> set[int]:
    """One number, of numpy's too, or several."""
    return set(given) if isinstance(given, Iterable) else {int(given)}


def _of_turns(token_map: dict, kept: list[int], turns: int | Iterable[int] | None) -> list[int]:
    """Those of some indices that belong to some turns."""
    if turns is None:
        return kept
    wanted = _numbers(turns)
    column = turn_column(token_map)
    there = sorted(set(column))
    missing = sorted(wanted - set(there))
    if missing:
        raise ValueError(
            f"Turn {missing[0]} does not exist: these tokens have the turns "
            f"{', '.join(map(str, there))} (counted from 0). Set `turns` to one of them, or leave "
            "it empty for all."
        )
    return [index for index in kept if column[index] in wanted]


def _kept_indices(token_map: dict, roles: tuple[str, ...], images: set[int] | None) -> list[int]:
    """Indices from 0 of the tokens with one of ``roles`` and, if of an image, one of ``images``."""
    wanted = set(roles)
    pairs = enumerate(zip(token_map["role"], token_map["image"], strict=True))
    if images is None:
        return [i for i, (role, _) in pairs if role in wanted]
    return [
        i
        for i, (role, image) in pairs
        if role in wanted and (role not in _OF_AN_IMAGE or image in images)
    ]


def _say(keep: str | Iterable[str], images: object = None) -> str:
    words = keep if isinstance(keep, str) else ", ".join(keep)
    return f"keep {words!r}" + ("" if images is None else f" with images {images!r}")


def _no_map(keep: str | Iterable[str], images: object) -> str:
    return (
        f"`filter_tokens` cannot do {_say(keep, images)}: this conditioning carries no token map, "
        "so nobody knows which token is what. It comes with `encode` and gets lost where something "
        "else changes the number of tokens, as ComfyUI's Conditioning (Concat) does. Take the "
        "conditioning from `encode`, join with `blend` (concat) instead, or set `keep` to all."
    )


def _nothing_left(t: T, keep: str | Iterable[str], images: object, drop_first: int) -> str:
    if t.token_map is None:
        there = f"{t.n} of unknown role"
    else:
        there = ", ".join(f"{role} {count}" for role, count in count_roles(t.token_map).items())
    dropped = f" and drop_first {drop_first}" if drop_first else ""
    return (
        f"`filter_tokens` leaves nothing: {_say(keep, images)}{dropped} matches none of the {t.n} "
        f"tokens. There were: {there}. Choose a keep that names one of these roles"
        + (", or a smaller drop_first." if drop_first else ".")
    )
