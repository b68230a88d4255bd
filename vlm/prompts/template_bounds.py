"""What chat templates may make: bounds of texts, lists and numbers, and filters that keep to them.

For `template_sandbox.py`, which says why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2.exceptions import SecurityError

LARGEST = 1_000_000  # characters of a text, entries of a list
_LONGEST_RANGE = 10_000
# A width in a format: thousands, or one that comes from elsewhere (`%*d`, `{:{w}}`).
_WIDE = re.compile(r"[0-9]{4,}|%[-+ #0-9.]*\*|\{[^{}]*\{")
# They make text as wide as a number says, and no chat template needs them.
_REFUSED_FILTERS = (
    "batch", "center", "filesizeformat", "format", "pprint", "slice", "urlize", "wordwrap",
    "xmlattr",
)  # fmt: skip
_WIDENING = ("center", "expandtabs", "ljust", "rjust", "zfill")
_FORMATTING = ("format", "format_map")


def bounded_filters(plain: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Those filters whose result may be much larger than what they are given.

    Args:
        plain: Jinja's own, by name.

    Returns:
        In their place: bounded, or refused where no chat template needs them.
    """
    return {
        "tojson": _tojson,
        "join": _bounded_join(plain["join"]),
        "replace": _bounded_replace(plain["replace"]),
        "indent": _bounded_indent(plain["indent"]),
        "sum": _bounded_sum(plain["sum"]),
        **{name: _refused_filter(name) for name in _REFUSED_FILTERS},
    }


def check(size: int) -> None:
    """Refuses a text or a list of that size."""
    if size > LARGEST:
        raise SecurityError(f"it makes more than {LARGEST} characters or entries")


def narrow(text: str) -> str:
    """A format that asks for no width of thousands."""
    if _WIDE.search(text.replace("{{", "")):
        raise SecurityError("it formats a text with a width of thousands")
    return text


def check_method(owner: str, name: str, args: tuple) -> None:
    """Whether what a method of a text would make is small."""
    if name in _WIDENING:
        check(len(owner) + max((a for a in args if isinstance(a, int)), default=0) * (
            1 + owner.count("\t")))  # fmt: skip
    elif name in _FORMATTING:
        narrow(owner)
    elif name == "replace" and len(args) > 1 and isinstance(args[0], str):
        check((len(owner) // max(len(args[0]), 1) + 1) * (len(str(args[1])) + 1))
    elif name == "join" and args and isinstance(args[0], list):
        check(sum(len(str(part)) + len(owner) for part in args[0]))


def bounded_range(*args: int) -> range:
    """`range`, of a length that a chat may have."""
    made = range(*args)
    if len(made) > _LONGEST_RANGE:
        raise SecurityError(f"it counts through a range of over {_LONGEST_RANGE}")
    return made


def _tojson(
    x: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None,
    sort_keys: bool = False,
) -> str:  # fmt: skip
    """transformers' filter, which escapes nothing."""
    if isinstance(indent, int) and indent > 16 or isinstance(indent, str) and len(indent) > 16:
        raise SecurityError("it indents JSON by more than 16")
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refused_filter(name: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise SecurityError(f"it uses the filter {name}, which chat templates are not given")

    return refuse


def _bounded_join(plain: Callable[..., Any]) -> Callable[..., Any]:
    def join(context: Any, value: Any, d: str = "", attribute: Any = None) -> Any:
        parts = list(value)
        check(len(parts) * (len(d) + 1))
        check(sum(len(part) + len(d) for part in parts if isinstance(part, str)))
        return plain(context, parts, d, attribute)

    return _as(plain, join)


def _bounded_replace(plain: Callable[..., Any]) -> Callable[..., Any]:
    def replace(context: Any, s: Any, old: str, new: str, count: int | None = None) -> Any:
        check_method(str(s), "replace", (old, new))
        return plain(context, s, old, new, count)

    return _as(plain, replace)


def _bounded_sum(plain: Callable[..., Any]) -> Callable[..., Any]:
    def add(environment: Any, iterable: Any, attribute: Any = None, start: Any = 0) -> Any:
        if not isinstance(start, int | float):
            raise SecurityError("it sums what are no numbers")
        return plain(environment, iterable, attribute, start)

    return _as(plain, add)


def _bounded_indent(plain: Callable[..., Any]) -> Callable[..., Any]:
    def indent(s: Any, width: Any = 4, first: bool = False, blank: bool = False) -> Any:
        wide = width if isinstance(width, int) else len(str(width))
        check((str(s).count("\n") + 1) * wide + len(str(s)))
        return plain(s, width, first, blank)

    return indent


def _as(plain: Callable[..., Any], made: Callable[..., Any]) -> Callable[..., Any]:
    """Marks what a filter wants first, as Jinja's own is marked."""
    made.jinja_pass_arg = plain.jinja_pass_arg  # type: ignore[attr-defined]
    return made
