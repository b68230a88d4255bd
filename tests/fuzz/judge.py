"""What became of an input, as one of a few kinds."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vlm import Entry, Tokens
from vlm.finite import is_finite
from vlm.running.decoder_layer import CallError
from vlm.token_map import what_is_wrong

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GOOD, REFUSED, RAW, BROKEN = "good", "refused in words", "raw exception", "broken result"
HANG, MEMORY, OUTSIDE, EXECUTED = "hang", "memory", "outside", "executed"
KINDS = (GOOD, REFUSED, RAW, BROKEN, HANG, MEMORY, OUTSIDE, EXECUTED)
FAULTS = KINDS[2:]

LONGEST = 2000  # letters of a message, paths of the sandbox among them
# CallError is ours: transformers does not run a model. MemoryError is counted as memory before.
_OWN = (ValueError, TypeError, OSError, MemoryError, CallError)
# What no message may hold: it moves a terminal's cursor. What turns the direction of a file's name
# is escaped where a message goes out, on the command line and in the log.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_RAISE_LINES = 14  # a `raise` with its message may be so long


class Refused(Exception):
    """A surface's own word for what the product refused in another way than by raising.

    Such as a job of a batch, whose error is a line in the log.
    """


class ToolFailed(Exception):
    """The tool itself fell over, which says nothing of the product."""


@dataclass(frozen=True)
class Verdict:
    """A kind and, for what is no fault, nothing; for a fault what was seen."""

    kind: str
    said: str = ""


def judge_error(error: BaseException) -> Verdict:
    """The kind of an exception: a sentence of the product's own, or raw."""
    if not isinstance(error, Refused | AssertionError) and _is_of_the_tool(error):
        raise ToolFailed(f"{error!r} {where(error)}") from error
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return Verdict(MEMORY, f"{type(error).__name__}: {str(error)[:200]}")
    if isinstance(error, Refused):
        wrong = what_is_no_sentence(str(error))
    elif not isinstance(error, _OWN):
        wrong = "its type"
    elif not is_ours(error):
        wrong = "not raised by the product"
    else:
        wrong = what_is_no_sentence(str(error))
    if not wrong:
        return Verdict(REFUSED)
    return Verdict(RAW, f"{wrong}: {type(error).__name__}: {str(error)[:300]!r} {where(error)}")


def judge_value(value: Any) -> Verdict:
    """The kind of a result: good, or one that a sampler must not get."""
    wrong = _wrong(value)
    return Verdict(BROKEN, wrong) if wrong else Verdict(GOOD)


def what_is_no_sentence(text: str) -> str:
    """Why a message is no sentence that a person could act on; "" for one that is."""
    if len(text.split()) < 5:
        return "fewer than five words"
    if not text.rstrip().endswith((".", "?", ")")):
        return "no end of a sentence"
    if len(text) > LONGEST:
        return f"{len(text)} letters"
    return "control characters" if _CONTROL.search(text) else ""


def is_ours(error: BaseException) -> bool:
    """Whether a `raise` of the product raised it, and not something below."""
    last = _last(error)
    if last is None:
        return False
    file = last.tb_frame.f_code.co_filename
    lines = [linecache.getline(file, last.tb_lineno - back) for back in range(_RAISE_LINES)]
    ours = any(Path(file).is_relative_to(ROOT / place) for place in ("vlm", "nodes"))
    return ours and any("raise" in line.split() for line in lines)


def _is_of_the_tool(error: BaseException) -> bool:
    """Raised in one of its files, but for those faults that are planted."""
    last = _last(error)
    file = None if last is None else Path(last.tb_frame.f_code.co_filename)
    return file is None or (file.is_relative_to(HERE) and file.name != "planted.py")


def where(error: BaseException) -> str:
    """File and line that raised it."""
    last = _last(error)
    if last is None:
        return ""
    name = last.tb_frame.f_code.co_filename
    return f"({'/'.join(Path(name).parts[-3:])}:{last.tb_lineno})"


def _last(error: BaseException) -> Any:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last


def _wrong(value: Any, depth: int = 3) -> str:
    """What is wrong with tokens, entries and tensors in a result; "" for nothing."""
    if isinstance(value, Entry):
        value = value.tokens
    if isinstance(value, Tokens):
        if value.token_map is not None and (wrong := what_is_wrong(value.token_map)):
            return f"a token map of which {wrong}"
        value = value.states
    if isinstance(value, torch.Tensor):
        strided = value.layout == torch.strided and not value.is_meta
        return "" if not strided or is_finite(value) else f"NaN or Inf in {list(value.shape)}"
    if depth and isinstance(value, Mapping):
        value = value.values()
    if depth and isinstance(value, list | tuple | type({}.values())):
        return next((wrong for one in _some(value) if (wrong := _wrong(one, depth - 1))), "")
    return ""


def _some(values: Iterable[Any], most: int = 200) -> list[Any]:
    return [value for value, _ in zip(values, range(most), strict=False)]
