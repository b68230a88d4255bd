"""The token map: what every token of a sequence is.

A plain dict of builtins; in a CONDITIONING's options it is one JSON text, since ComfyUI's Save
Conditioning refuses options that are no numbers, texts or tensors. ``new_map`` and ``map_text`` are
the functions that write it, ``read_map`` the one that reads it::

    {"version": 1, "n": N,
     "role":  [str] * N,    # one of ROLES
     "image": [int] * N,    # image number from 0 on image tokens and their markers, else -1
     "frame": [int] * N,    # from 0; 0 where the role is not image (as for the next three)
     "tile":  [int] * N,    # from 0; -1 = thumbnail
     "row":   [int] * N,    # from 0, on the grid after the VLM's merge
     "col":   [int] * N,
     "grids": [{"image": 0, "frames": 1, "rows": 4, "cols": 6}, ...]}

A map of a conversation is of version 2 and has one column more; without it all tokens are of the
first turn::

     "turn":  [int] * N,    # turn of a conversation, from 0: a user's words and the answer to them

One with sounds is of version 3 and has two columns more, and that of the turns where there are
several::

     "audio": [int] * N,    # sound number from 0 on audio tokens and their markers, else -1
     "time":  [int] * N,    # milliseconds from the sound's beginning; 0 where the role is not audio
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, overload

from .logger import LOG
from .quoted import told
from .token_grid import is_grid

VERSION = 1
# Written only where there are several turns, or sounds, so that older packs read all other maps.
WITH_TURNS, WITH_SOUNDS = 2, 3
ROLES = (
    "system",
    "template",
    "vision_marker",
    "image",
    "audio_marker",
    "audio",
    "text",
    "thinking",
    "generated",
    "pad",
    "unknown",
)
_NUMBERS = {"image": -1, "frame": 0, "tile": 0, "row": 0, "col": 0}  # column: of a plain token
_MORE = {"turn": 0, "audio": -1, "time": 0}  # columns that a map has where they say something
_LEAST = {"image": -1, "frame": 0, "tile": -1, "row": 0, "col": 0, **_MORE}
_END = 2**31  # of every number: no sequence has so many tokens
_GRID_KEYS = ("image", "frames", "rows", "cols")


def new_map(
    roles: Iterable[str],
    images: Iterable[int] | None = None,
    frames: Iterable[int] | None = None,
    tiles: Iterable[int] | None = None,
    rows: Iterable[int] | None = None,
    cols: Iterable[int] | None = None,
    grids: Iterable[dict] = (),
    turns: Iterable[int] | None = None,
    audios: Iterable[int] | None = None,
    times: Iterable[int] | None = None,
) -> dict:
    """Write a token map.

    Args:
        roles: one of ``ROLES`` per token.
        images: image number per token from 0, -1 for tokens of no image. Default: all -1.
        frames, tiles, rows, cols: place of an image token, from 0; tile -1 = thumbnail. Default 0.
        grids: per image number ``{"image", "frames", "rows", "cols"}``, after the VLM's merge.
        turns: turn of a conversation per token, from 0. Default: all 0.
        audios: sound number per token from 0, -1 for tokens of no sound. Default: all -1.
        times: milliseconds of an audio token from its sound's beginning. Default: all 0.

    Returns:
        The map, of builtins only (numpy and tensor numbers are converted).

    Raises:
        ValueError: an unknown role, columns of different lengths, or a grid without its four
            numbers.
    """
    given = {"image": images, "frame": frames, "tile": tiles, "row": rows, "col": cols}
    role = [str(r) for r in roles]
    out: dict[str, Any] = {"version": VERSION, "n": len(role), "role": role}
    for key, plain in _NUMBERS.items():
        column = given[key]
        out[key] = [plain] * len(role) if column is None else [int(v) for v in column]
    out["grids"] = [{k: int(v) for k, v in grid.items() if k in _GRID_KEYS} for grid in grids]
    more = {"turn": turns, "audio": audios, "time": times}
    out = _with_more(out, {k: [int(v) for v in column or ()] for k, column in more.items()})
    wrong = what_is_wrong(out)
    if wrong:
        raise ValueError(f"This token map cannot be written: {wrong}.")
    return out


def turn_column(token_map: dict) -> list[int]:
    """Turn of a conversation per token, from 0; all 0 where the map knows of none."""
    return _column(token_map, "turn")


def audio_column(token_map: dict) -> list[int]:
    """Sound number per token from 0, -1 = of no sound; all -1 where the map knows of none."""
    return _column(token_map, "audio")


def _column(token_map: dict, name: str) -> list[int]:
    return token_map[name] if name in token_map else [_MORE[name]] * token_map["n"]


def _with_more(token_map: dict, columns: dict[str, list[int]]) -> dict:
    """A map with the columns of _MORE that say something, of the version that has these."""
    said = {key for key, column in columns.items() if set(column) - {_MORE[key]}}
    if not said:
        return token_map
    if said & {"audio", "time"}:
        said |= {"audio", "time"}
    version = WITH_SOUNDS if "audio" in said else WITH_TURNS
    grids, n = token_map.pop("grids"), token_map["n"]
    more = {key: columns[key] or [_MORE[key]] * n for key in _MORE if key in said}
    return {**token_map, "version": version, **more, "grids": grids}


def map_text(token_map: dict) -> str:
    """The map as it lies in a CONDITIONING's options; ``read_map`` reads it."""
    return json.dumps(token_map, separators=(",", ":"))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def read_map(token_map: Any, n: int) -> dict | None:
    """Read the token map that came with a tensor of ``n`` tokens.

    The map rides in a conditioning's options, which native nodes copy also when they change the
    tensor, so it is compared with the tensor here.

    Args:
        token_map: whatever lay in ``options["vlm_tokens"]``: JSON text, a dict from an older file,
            or None where there was nothing.
        n: the tensor's number of tokens.

    Returns:
        The map (the same object where nothing had to change). A map shorter than the tensor comes
        back extended with role ``unknown``; None for no map, a map longer than the tensor, or a
        dict that is not a valid map. The last three cases but "no map" log a warning.
    """
    if token_map is None:
        return None
    if isinstance(token_map, str):
        token_map = _parsed(token_map)
    wrong = what_is_wrong(token_map)
    if wrong:
        LOG.warning(
            "VLM Conditioning ignores the token map of a conditioning: %s. Take the conditioning "
            "from `encode` again to get a token map.",
            wrong,
        )
        return None
    have = token_map["n"]
    if have > n:
        LOG.warning(
            "The token map covers %d tokens, the conditioning has %d: something between "
            "shortened it, so the map is dropped. `filter_tokens` shortens it and keeps the map.",
            have,
            n,
        )
        return None
    if have < n:
        LOG.warning(
            "The token map covers %d tokens, the conditioning has %d: the rest is unknown. "
            "ComfyUI's Conditioning (Concat) does this; `blend` (concat) joins them.",
            have,
            n,
        )
        return join(token_map, new_map(["unknown"] * (n - have)))
    return token_map


@overload
def take(token_map: dict, indices: Sequence[int]) -> dict: ...


@overload
def take(token_map: None, indices: Sequence[int]) -> None: ...


def take(token_map: dict | None, indices: Sequence[int]) -> dict | None:
    """The map of the kept tokens, in the order of ``indices`` (from 0).

    Image and sound numbers stay as they are; grids stay for the images that still have a token.
    None stays None.
    """
    if token_map is None:
        return None
    indices = [int(i) for i in indices]
    out: dict[str, Any] = {"version": VERSION, "n": len(indices)}
    for key in ("role", *_NUMBERS):
        column = token_map[key]
        out[key] = [column[i] for i in indices]
    left = set(out["image"])
    out["grids"] = [dict(grid) for grid in token_map["grids"] if grid["image"] in left]
    columns = {key: _column(token_map, key) for key in _MORE}
    return _with_more(out, {key: [column[i] for i in indices] for key, column in columns.items()})


def join(a: dict, b: dict) -> dict:
    """The map of a's tokens followed by b's; b's image and sound numbers are shifted past a's.

    Turns keep their numbers: what is joined may be of one turn.
    """
    shift = 1 + max([-1, *a["image"], *(grid["image"] for grid in a["grids"])])
    sounds = 1 + max([-1, *audio_column(a)])
    out: dict[str, Any] = {"version": VERSION, "n": a["n"] + b["n"]}
    for key in ("role", *_NUMBERS):
        out[key] = [*a[key], *b[key]]
    out["image"][a["n"] :] = [i + shift if i >= 0 else i for i in b["image"]]
    moved = [{**grid, "image": grid["image"] + shift} for grid in b["grids"]]
    out["grids"] = [*(dict(grid) for grid in a["grids"]), *moved]
    more = {key: [*_column(a, key), *_column(b, key)] for key in _MORE}
    more["audio"][a["n"] :] = [i + sounds if i >= 0 else i for i in audio_column(b)]
    return _with_more(out, more)


def count_roles(token_map: dict) -> dict[str, int]:
    """How many tokens each role has, roles without tokens left out, in the order of ``ROLES``."""
    role = token_map["role"]
    return {name: role.count(name) for name in ROLES if name in role}


def roles_in_words(token_map: dict) -> str:
    """`318 tokens: template 10, image 280, text 28`."""
    roles = ", ".join(f"{role} {count}" for role, count in count_roles(token_map).items())
    return f"{token_map['n']} tokens: {roles}"


def what_is_wrong(token_map: object) -> str | None:
    """Words for what makes ``token_map`` invalid; None if it is valid."""
    if not isinstance(token_map, dict):
        return f"it is a {type(token_map).__name__}, expected a dict"
    version = token_map.get("version")
    if version not in (VERSION, WITH_TURNS, WITH_SOUNDS) or isinstance(version, bool):
        known = f"{VERSION} to {WITH_SOUNDS}"
        return f"its version is {told(version)}, this pack reads the versions {known}"
    n = token_map.get("n")
    if type(n) is not int or n < 0:
        return f"its n is {told(n)}, expected the number of tokens"
    needed = {WITH_TURNS: {"turn"}, WITH_SOUNDS: {"audio", "time"}}.get(version, set())
    more = [key for key in _MORE if key in needed or key in token_map]
    for key in ("role", *_NUMBERS, *more):
        column = token_map.get(key)
        if not isinstance(column, list) or len(column) != n:
            length = len(column) if isinstance(column, list) else "no"
            return f"its column {told(key)} has {length} entries for {n} tokens"
        kind = str if key == "role" else int
        if not set(map(type, column)) <= {kind}:
            return f"its column {told(key)} holds something else than {kind.__name__}"
    unknown = sorted(set(token_map["role"]) - set(ROLES))
    if unknown:
        return f"role {told(unknown[0])} is unknown; the roles are {', '.join(ROLES)}"
    sounds = zip(token_map["role"], audio_column(token_map), strict=True)
    if any(role == "audio" and number < 0 for role, number in sounds):
        return "a token has role 'audio' and no sound number"
    return _wrong_with_grids(token_map)


def _wrong_with_grids(token_map: dict) -> str | None:
    grids = token_map.get("grids")
    if not isinstance(grids, list):
        return "it has no list of grids"
    for grid in grids:
        if not isinstance(grid, dict) or any(type(grid.get(key)) is not int for key in _GRID_KEYS):
            return f"a grid is {told(grid)}, expected the numbers {', '.join(_GRID_KEYS)}"
        if grid["image"] < 0 or min(grid[key] for key in _GRID_KEYS[1:]) < 1:
            return f"a grid is {told(grid)}, expected an image from 0 and sizes from 1"
        if not is_grid(grid["rows"], grid["cols"], grid["frames"]):
            return f"a grid is {told(grid)}, larger than any picture's"
    if len({grid["image"] for grid in grids}) < len(grids):
        return "two grids are of the same image"
    for key, least in _LEAST.items():
        if key in token_map and min(token_map[key], default=0) < least:
            return f"its column {told(key)} holds {told(min(token_map[key]))}, not from {least}"
        if key in token_map and max(token_map[key], default=0) >= _END:
            return (
                f"its column {told(key)} holds {told(max(token_map[key]))}, more than there can be"
            )
    return _wrong_with_images(token_map)


def _wrong_with_images(token_map: dict) -> str | None:
    """Image tokens against the grids; a filter may have left only some of an image's."""
    sizes = {grid["image"]: [grid[key] for key in _GRID_KEYS[1:]] for grid in token_map["grids"]}
    columns = (token_map[key] for key in ("role", *_NUMBERS))
    taken = set()
    for role, image, frame, tile, row, col in zip(*columns, strict=True):
        if role != "image":
            continue
        if image < 0:
            return "a token has role 'image' and no image number"
        if not sizes:
            continue  # a map made by hand
        if image not in sizes:
            return f"a token is of image {image}, which has no grid"
        if tile < 0:
            continue  # a thumbnail has a grid of its own
        frames, rows, cols = sizes[image]
        place = (image, frame, tile, row, col)
        if frame >= frames or row >= rows or col >= cols:
            return (
                f"a token is at frame {frame}, row {row}, column {col} of image {image}, whose "
                f"grid has {frames} x {rows} x {cols}"
            )
        if place in taken:
            return f"two tokens of image {image} are at the same row {row} and column {col}"
        taken.add(place)
    return None
