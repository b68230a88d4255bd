"""Numbers of preprocessor files and vision configs: other spellings are read, nonsense is refused.

People write `size: 512`, `image_mean: 0.5` or `"3136"`; transformers reads most of it. What cannot
be meant (a merge of 0, a std of 0, a text for a number) is refused here, by the file and the key,
before it divides something.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..quoted import told

_MOST_PIXELS = 2**53
_LARGEST = 2**20  # of a side, a patch, a number of frames or of tiles
_SIDES = ("height", "width", "shortest_edge", "longest_edge")
# Whole numbers and their least values; sides and budgets of pixels may be as large as they like.
_WHOLE = {
    "patch_size": 1, "temporal_patch_size": 1, "merge_size": 1, "min_patches": 1,
    "max_patches": 1, "min_frames": 1, "max_frames": 1, "num_frames": 1,
}  # fmt: skip
_PIXELS = ("min_pixels", "max_pixels")
_VISION = {
    "image_size": 1, "patch_size": 1, "temporal_patch_size": 1, "spatial_merge_size": 1,
}  # fmt: skip
_TOP = {"mm_tokens_per_image": 1, "scale_factor": 1}


def clean(content: Mapping[str, Any], file: str) -> dict[str, Any]:
    """The content of a preprocessor file with every number in one spelling.

    Args:
        content: Of preprocessor_config.json, video_preprocessor_config.json or a part of
            processor_config.json.
        file: What messages call it.

    Returns:
        The same keys: whole numbers as int, mean and std as three floats, `size` as a mapping.

    Raises:
        ValueError: A value that cannot be meant; names the file and the key.
    """
    made = dict(content)
    for key, value in content.items():
        if value is None:
            continue
        if key in ("image_processor", "video_processor") and isinstance(value, Mapping):
            made[key] = clean(value, file)
        elif key in _WHOLE:
            made[key] = _whole(value, _WHOLE[key], _LARGEST, key, file)
        elif key in _PIXELS:
            made[key] = _whole(value, 0, _MOST_PIXELS, key, file)
        elif key in ("image_mean", "image_std"):
            made[key] = _three(value, key, file)
        elif key in ("size", "max_image_size"):
            made[key] = _size(value, key, file)
        elif key == "fps":
            made[key] = _number(value, key, file)
        elif key == "image_grid_pinpoints":
            made[key] = _pairs(value, key, file)
    return made


def check_vision_numbers(config: Mapping[str, Any], where: Path) -> None:
    """Refuses numbers of a config.json that pictures are cut by and that cannot be meant.

    Args:
        config: Content of config.json.
        where: Whose it is, for the message.

    Raises:
        ValueError: Names config.json and the key.
    """
    file = f"config.json of {where}"
    vision = config.get("vision_config")
    if vision is not None and not isinstance(vision, Mapping):
        raise refusal(vision, "vision_config", "a mapping", file)
    for part, keys in ((vision or {}, _VISION), (config, _TOP)):
        for key, least in keys.items():
            value = part.get(key)
            if isinstance(value, list) and config.get("model_type") == "internvl":  # [14, 14]
                for one in value:
                    _whole(one, least, _LARGEST, key, file)
            elif value is not None:
                _whole(value, least, _LARGEST, key, file)
    _check_heads(vision or {}, file)
    _check_deepstack(vision or {}, file)
    ratio = config.get("downsample_ratio")
    if ratio is not None and not 0 < _number(ratio, "downsample_ratio", file) <= 1:
        raise refusal(ratio, "downsample_ratio", "a number over 0, at most 1", file)


def check_built_tower(built: Any, where: Path) -> None:
    """Refuses attention heads of a vision tower that are not said and do not fit what is.

    Args:
        built: transformers' own config, in which every number has a value.
        where: Whose it is, for the message.

    Raises:
        ValueError: Names config.json and the key.
    """
    vision = getattr(built, "vision_config", None)
    if vision is not None:
        _check_heads(vision.to_dict(), f"config.json of {where}")


def _check_heads(vision: Mapping[str, Any], file: str) -> None:
    """Whether the tower's attention heads divide its width, where both are said."""
    key = "num_heads" if vision.get("num_heads") is not None else "num_attention_heads"
    width = vision.get("embed_dim", vision.get("hidden_size"))  # Qwen2-VL's hidden_size comes out
    if vision.get(key) is not None:
        heads = _whole(vision[key], 1, _LARGEST, key, file)
        if type(width) is int and width % heads:
            raise refusal(heads, key, f"a divisor of its width, {width}", file)
        # Qwen's towers, which say num_heads, turn rows and columns of a head in pairs.
        if type(width) is int and key == "num_heads" and width // heads % 4:
            raise refusal(heads, key, f"a divisor of {width} that leaves a multiple of 4", file)


def _check_deepstack(vision: Mapping[str, Any], file: str) -> None:
    """Whether features are taken behind layers that the tower has, each once."""
    named, depth = vision.get("deepstack_visual_indexes"), vision.get("depth")
    if named is None:
        return
    most = depth - 1 if type(depth) is int and depth > 0 else _LARGEST
    listed = named if isinstance(named, list) else [None]
    fine = all(type(one) is int and 0 <= one <= most for one in listed)
    if not fine or len(set(listed)) < len(listed):
        expected = f"a list of different whole numbers from 0 to {most}"
        raise refusal(named, "deepstack_visual_indexes", expected, file)


def refusal(value: Any, key: str, expected: str, file: str) -> ValueError:
    """What is said of a value that cannot be meant."""
    return ValueError(
        f"{file} has {key} {told(value)}, expected {expected}. Correct it, or download the file "
        "again."
    )


def _finite(value: Any) -> float | None:
    """A number, or a text that is one; None = it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _number(value: Any, key: str, file: str) -> float:
    number = _finite(value)
    if number is None or number <= 0:
        raise refusal(value, key, "a number over 0", file)
    return value if isinstance(value, int | float) else number


def _whole(value: Any, least: int, most: int, key: str, file: str) -> int:
    number = _finite(value)
    if number is None or number != int(number) or not least <= number <= most:
        raise refusal(value, key, f"a whole number from {least} to {most}", file)
    return int(number)


def _three(value: Any, key: str, file: str) -> list[float]:
    """Mean or std of red, green and blue; one number stands for all three."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    values = values * 3 if len(values) == 1 else values
    numbers = [_finite(one) for one in values]
    wrong = len(numbers) != 3 or any(one is None for one in numbers)
    if wrong or (key == "image_std" and any(one <= 0 for one in numbers if one is not None)):
        above = " over 0" * (key == "image_std")
        raise refusal(value, key, f"three numbers{above}, for red, green and blue", file)
    return [one for one in numbers if one is not None]


def _size(value: Any, key: str, file: str) -> dict[str, Any]:
    """A mapping; a number is both sides, two are height and width."""
    if not isinstance(value, Mapping):
        sides = list(value) if isinstance(value, list | tuple) else [value]
        if len(sides) not in (1, 2) or any(_finite(side) is None for side in sides):
            raise refusal(value, key, "sides in pixels, as {height, width}", file)
        value = {"height": sides[0], "width": sides[-1]}
    return {
        name: _whole(side, 1, _MOST_PIXELS, f"{key}.{name}", file)
        if name in _SIDES and side is not None
        else side
        for name, side in value.items()
    }


def _pairs(value: Any, key: str, file: str) -> list[list[int]]:
    if not isinstance(value, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in value
    ):
        raise refusal(value, key, "a list of pairs (height, width)", file)
    return [[_whole(side, 1, _LARGEST, key, file) for side in pair] for pair in value]
