"""Values of a config.json: which mean nothing here, and which no weights could have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..quoted import printable, told

# How transformers' own classes shall be called, which is ours to say.
_CALLING = frozenset(
    ["attn_implementation", "output_attentions", "output_hidden_states", "return_dict",
     "torchscript", "use_cache", "use_return_dict"]
)  # fmt: skip
# Each of what they count has tensors of its own.
_COUNTS = re.compile(r"(num|n)_(\w+_)?(layers|blocks)|depth|layers|\w+_depth")
# Kinds of what is read here, in the parts too; what is empty is as good as not there.
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "dtype": ((str, Mapping), "the name of a dtype"),
    "torch_dtype": ((str, Mapping), "the name of a dtype"),
    "text_config": ((Mapping,), "a mapping"),
    "vision_config": ((Mapping,), "a mapping"),
    "audio_config": ((Mapping,), "a mapping"),
    "thinker_config": ((Mapping,), "a mapping"),
    "quantization_config": ((Mapping,), "a mapping"),
    "vision_aspect_ratio": ((str,), "text"),
    "tie_word_embeddings": ((bool, int), "true or false"),
}
_SHOWN = 60  # characters of a key in a message
_LONGEST_LIST = 256  # where a model has fewer tensors than that
_PUBLISHED_SECTIONS = 64  # what they sum to in every model whose config.json leaves them out


def without_calling(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json without what says how the model is called, in its parts too."""
    return {
        key: without_calling(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in _CALLING
    }


def without_nulls(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json without what is null, in its parts too: it is as good as not there."""
    return {
        key: without_nulls(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if value is not None
    }


def check_kinds(config: Mapping[str, Any], where: Path) -> None:
    """Compares values of a config.json with the kinds that they have in every model.

    Args:
        config: Content of config.json.
        where: Whose it is, for the message.

    Raises:
        ValueError: A list for a text, a text for a mapping, and so on.
    """
    for name, value in config.items():
        kinds, expected = _KINDS.get(name, ((), ""))
        if value and kinds and not isinstance(value, kinds):
            raise ValueError(
                f"The config.json of {where} says {name} {told(value)}, expected {expected}. "
                "Download config.json again."
            )
        if isinstance(value, Mapping) and Mapping in kinds and str not in kinds:
            check_kinds(value, where)


def check_rope(config: Mapping[str, Any], where: Path, sections_needed: bool = False) -> None:
    """Compares how a config.json divides positions among time, rows and columns with its heads.

    Args:
        config: Content of config.json.
        where: Whose it is, for the message.
        sections_needed: Whether the family divides them; where config.json does not say how,
            transformers takes the published models' numbers.

    Raises:
        ValueError: `mrope_section` is no list of whole numbers that sum to half of what turns.
    """
    for part in (config, config.get("text_config") or {}):
        rope = part.get("rope_scaling") or part.get("rope_parameters") or {}
        sections = rope.get("mrope_section") if isinstance(rope, Mapping) else None
        if not isinstance(rope, Mapping) or (sections is None and not sections_needed):
            continue
        width = _turning(part, rope)
        if sections is None and width in (None, 2 * _PUBLISHED_SECTIONS):
            continue
        listed = sections if isinstance(sections, list) else [None]
        counts = [n for n in listed if type(n) is int and n >= 0]
        if width is not None and (len(counts) < len(listed) or 2 * sum(counts) != width):
            raise ValueError(
                f"The config.json of {where} says mrope_section {told(sections)}, expected three "
                f"whole numbers that sum to {width // 2}, half of what turns of a head. Download "
                "config.json again."
            )


def _turning(part: Mapping[str, Any], rope: Mapping[str, Any]) -> int | None:
    """How many dimensions of a head rotary positions turn; None = the file does not say."""
    width, heads = part.get("hidden_size"), part.get("num_attention_heads")
    head = part.get("head_dim")
    if type(head) is not int and type(width) is int and type(heads) is int and heads > 0:
        head = width // heads
    share = rope.get("partial_rotary_factor", part.get("partial_rotary_factor", 1.0))
    if type(head) is not int or isinstance(share, bool) or not isinstance(share, int | float):
        return None
    return int(head * share) if 0 < share <= 1 else None


def check_counts(config: Mapping[str, Any], tensors: int, where: Path) -> None:
    """Compares how many parts a config.json counts with how many tensors there are.

    A model is built before its tensors are compared one by one; a flipped bit in a count would
    have it built for minutes.

    Args:
        config: Content of config.json.
        tensors: How many the weights hold.
        where: Whose they are, for the message.

    Raises:
        ValueError: More layers than tensors, or a list longer than any model needs.
    """
    for name, value in _entries(config):
        name = printable(name[:_SHOWN])
        if isinstance(value, list):
            most, said = max(tensors, _LONGEST_LIST), f"has {len(value)} entries in {name}"
            wrong = len(value) > most
        else:
            said = f"says {name} {told(value)}"
            wrong = bool(_COUNTS.fullmatch(name)) and value > tensors
        if wrong:
            raise ValueError(
                f"The config.json of {where} {said}, and the weights hold {tensors} tensors in "
                "all. Download config.json again."
            )


def _entries(config: Mapping[str, Any]) -> Iterator[tuple[str, int | list]]:
    """Every whole number and every list, in the parts too."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _entries(value)
        elif isinstance(value, list) or type(value) is int:
            yield key, value
