"""A sandbox for chat templates that ends: bounded in steps, in depth and in what it makes.

A chat template is a Jinja program out of a model's folder. Jinja's own sandbox keeps it from files
and from Python's insides; it may still loop for hours or make gigabytes out of one line. Here every
turn of a loop and every call of a macro is a step, what an operator, a filter or a method would
make is looked at before it is made, and a template that goes beyond is refused.

Globals, filters and settings are those that transformers gives chat templates
(`utils/chat_template_utils.py`), so that a template writes the same here and there.
"""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MOST_STEPS = 50_000  # turns of loops and calls of macros in one rendering
LARGEST = 1_000_000  # characters of a text, entries of a list
MOST_MADE = 20 * LARGEST  # of all that is made in one rendering
_LONGEST_RANGE = 10_000
_MOST_BITS = 4096  # of a whole number
# A width in a format: thousands, or one that comes from elsewhere (`%*d`, `{:{w}}`).
_WIDE = re.compile(r"[0-9]{4,}|%[-+ #0-9.]*\*|\{[^{}]*\{")
# They make text as wide as a number says, and no chat template needs them.
_REFUSED_FILTERS = (
    "batch", "center", "filesizeformat", "format", "pprint", "slice", "urlize", "wordwrap",
    "xmlattr",
)  # fmt: skip
_WIDENING = ("center", "expandtabs", "ljust", "rjust", "zfill")
_FORMATTING = ("format", "format_map")
_REFUSED_METHODS = ("encode", "maketrans", "to_bytes", "translate")


class _Generation(Extension):
    """`{% generation %}`: marks what an assistant says; here it is what stands inside."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own way

    def parse(self, parser: Any) -> Any:
        """Its body, as if the tag were not there."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Code(CodeGenerator):
    """Python of a template in which `~` asks the environment."""

    def visit_Concat(self, node: nodes.Concat, frame: Any) -> None:
        """`a ~ b`."""
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """Where chat templates are rendered."""

    code_generator_class = _Code
    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self) -> None:
        """As transformers makes its own."""
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        self._run = threading.local()
        self._compiled: dict[str, Template] = {}
        self.filters["tojson"] = _tojson
        self.filters["join"] = _bounded_join(self.filters["join"])
        self.filters["replace"] = _bounded_replace(self.filters["replace"])
        self.filters["indent"] = _bounded_indent(self.filters["indent"])
        self.filters["sum"] = _bounded_sum(self.filters["sum"])
        for name, plain in self.filters.items():
            self.filters[name] = self._charging(plain)
        for name in _REFUSED_FILTERS:
            self.filters[name] = _refused_filter(name)
        self.globals = {
            "dict": dict,
            "namespace": _TemplateNamespace,
            "range": _bounded_range,
            "raise_exception": _raise,
            "strftime_now": lambda text: datetime.now().strftime(_narrow(text)),
        }

    def render(self, source: str, **context: Any) -> str:
        """What a template writes.

        Args:
            source: The template.
            **context: What it may read.

        Raises:
            TemplateError: Jinja's, for a template that cannot be read, that raises an exception
                itself, or that goes beyond a bound.
        """
        self._run.steps = self._run.made = 0
        try:
            if source not in self._compiled:
                self._compiled[source] = self.from_string(source)
            return self._compiled[source].render(**context)
        except (ArithmeticError, AttributeError, LookupError, MemoryError) as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from error
        except RecursionError as error:
            raise SecurityError("it calls itself without an end") from error

    def step(self) -> str:
        """Counts a turn of a loop or a call of a macro; stands in every one of them."""
        self._run.steps += 1
        if self._run.steps > MOST_STEPS:
            raise SecurityError(f"it takes over {MOST_STEPS} steps")
        return ""

    def charge(self, made: Any) -> Any:
        """Counts what was made, so that many large values are refused as one larger one is."""
        if isinstance(made, str | list | tuple):
            _check(len(made))
            self._run.made += len(made)
            if self._run.made > MOST_MADE:
                raise SecurityError(f"it makes over {MOST_MADE} characters or entries in all")
        return made

    def _charging(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(plain)  # with the marks of what a filter wants first
        def charged(*args: Any, **kwargs: Any) -> Any:
            return self.charge(plain(*args, **kwargs))

        return charged

    def joined(self, parts: Iterable[Any]) -> str:
        """`a ~ b`, bounded."""
        texts = [str(part) for part in parts]
        _check(sum(map(len, texts)))
        return self.charge("".join(texts))

    def concat(self, parts: Iterable[str]) -> str:
        """All that a template or a macro has written, bounded while it is collected."""
        found, size = [], 0
        for part in parts:
            size += len(part)
            _check(size)
            found.append(part)
        return "".join(found)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """`+`, `*`, `**` and `%`, once it is known that what they make is small."""
        sides = (left, right)
        if all(isinstance(side, int) for side in sides):
            bits = {"*": sum(side.bit_length() for side in sides),
                    "**": left.bit_length() * max(right, 0)}  # fmt: skip
            if bits.get(operator, 0) > _MOST_BITS:
                raise SecurityError("it makes a number of thousands of digits")
        elif operator == "*":
            for text, times in (sides, sides[::-1]):
                if isinstance(times, int) and hasattr(text, "__len__"):
                    _check(len(text) * max(times, 0))
        elif operator == "+":
            _check(sum(len(side) for side in sides if hasattr(side, "__len__")))
        elif operator == "%" and isinstance(left, str):
            _narrow(left)
            _check(len(left) + sum(len(str(part)) for part in _parts(right)))
        return self.charge(super().call_binop(context, operator, left, right))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N804, N805
        """A function or a method; methods of texts are looked at first."""
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str | int) or owner is str:
            if name in _REFUSED_METHODS:
                raise SecurityError(f"it uses the method {name}, which no chat template needs")
            if name == "join" and len(args) == 1:
                args = (list(args[0]),)  # what a filter gives is counted too
        if isinstance(owner, str):
            _check_method(owner, name, (*args, *kwargs.values()))
        return __self.charge(super().call(__context, __obj, *args, **kwargs))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        found: Any = tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock))
        for node in found:
            counted = nodes.Call(nodes.EnvironmentAttribute("step"), [], [], None, None)
            node.body.insert(0, nodes.ExprStmt(counted, lineno=node.lineno))
        return tree


class _TemplateNamespace(Namespace):
    """`namespace()`, which holds no name that begins with an underscore."""

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"it sets {name[:40]} of a namespace")
        super().__setitem__(name, value)


def _check(size: int) -> None:
    if size > LARGEST:
        raise SecurityError(f"it makes more than {LARGEST} characters or entries")


def _narrow(text: str) -> str:
    if _WIDE.search(text.replace("{{", "")):
        raise SecurityError("it formats a text with a width of thousands")
    return text


def _parts(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def _check_method(owner: str, name: str, args: tuple) -> None:
    """Whether what a method of a text would make is small."""
    if name in _WIDENING:
        _check(len(owner) + max((a for a in args if isinstance(a, int)), default=0) * (
            1 + owner.count("\t")))  # fmt: skip
    elif name in _FORMATTING:
        _narrow(owner)
    elif name == "replace" and len(args) > 1 and isinstance(args[0], str):
        _check((len(owner) // max(len(args[0]), 1) + 1) * (len(str(args[1])) + 1))
    elif name == "join" and args and isinstance(args[0], list):
        _check(sum(len(str(part)) + len(owner) for part in args[0]))


def _bounded_range(*args: int) -> range:
    made = range(*args)
    if len(made) > _LONGEST_RANGE:
        raise SecurityError(f"it counts through a range of over {_LONGEST_RANGE}")
    return made


def _raise(message: str) -> None:
    raise TemplateError(message)


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
        _check(len(parts) * (len(d) + 1))
        _check(sum(len(part) + len(d) for part in parts if isinstance(part, str)))
        return plain(context, parts, d, attribute)

    return _as(plain, join)


def _bounded_replace(plain: Callable[..., Any]) -> Callable[..., Any]:
    def replace(context: Any, s: Any, old: str, new: str, count: int | None = None) -> Any:
        _check_method(str(s), "replace", (old, new))
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
        _check((str(s).count("\n") + 1) * wide + len(str(s)))
        return plain(s, width, first, blank)

    return indent


def _as(plain: Callable[..., Any], made: Callable[..., Any]) -> Callable[..., Any]:
    """Marks what a filter wants first, as Jinja's own is marked."""
    made.jinja_pass_arg = plain.jinja_pass_arg  # type: ignore[attr-defined]
    return made
