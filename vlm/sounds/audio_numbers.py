"""Numbers of a config.json that sounds are cut by: what cannot be meant is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..pictures.preprocessor_values import refusal
from .preprocessor import SoundPreprocessor

_LARGEST = 2**20
_AUDIO = (
    "n_window", "num_mel_bins", "d_model", "encoder_attention_heads", "max_source_positions",
    "output_dim",
)  # fmt: skip
_TOP = ("position_id_per_seconds", "seconds_per_chunk")


def check_audio_numbers(config: Mapping[str, Any], hearing: SoundPreprocessor, where: Path) -> None:
    """Compares the numbers of an audio tower with each other and with its preprocessor's.

    Args:
        config: Content of config.json.
        hearing: What the preprocessor files say.
        where: Whose it is, for the message.

    Raises:
        ValueError: Names the key.
    """
    file = f"config.json of {where}"
    audio = config.get("audio_config") or {}
    for part, keys in ((audio, _AUDIO), (config, _TOP)):
        for key in keys:
            value = part.get(key)
            if value is not None and (type(value) is not int or not 1 <= value <= _LARGEST):
                raise refusal(value, key, f"a whole number from 1 to {_LARGEST}", file)
    bands = audio.get("num_mel_bins")
    if bands is not None and bands != hearing.feature_size:
        expected = f"{hearing.feature_size}, the preprocessor's feature_size"
        raise refusal(bands, "num_mel_bins", expected, file)
    width, heads = audio.get("d_model"), audio.get("encoder_attention_heads")
    if width is not None and (width % 2 or (heads is not None and width % heads)):
        raise refusal(width, "d_model", f"an even multiple of its {heads} attention heads", file)
    window, places = audio.get("n_window"), audio.get("max_source_positions")
    if window is not None and places is not None and window > places:
        raise refusal(window, "n_window", f"at most max_source_positions, {places}", file)
