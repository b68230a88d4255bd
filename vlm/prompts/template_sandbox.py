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

from ..quoted import reason
from .template_bounds import LARGEST, bounded_filters, bounded_range, check, check_method, narrow

MOST_STEPS = 50_000  # turns of loops and calls of macros in one rendering
MOST_MADE = 20 * LARGEST  # of all that is made in one rendering
_MOST_BITS = 4096  # of a whole number
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
        self.filters |= bounded_filters(self.filters)
        for name, plain in self.filters.items():
            self.filters[name] = self._charging(plain)
        self.globals = {
            "dict": dict,
            "namespace": _TemplateNamespace,
            "range": bounded_range,
            "raise_exception": _raise,
            "strftime_now": lambda text: datetime.now().strftime(narrow(text)),
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
            raise TemplateError(f"{type(error).__name__}: {reason(error, 300)}") from error
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
            check(len(made))
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
        check(sum(map(len, texts)))
        return self.charge("".join(texts))

    def concat(self, parts: Iterable[str]) -> str:
        """All that a template or a macro has written, bounded while it is collected."""
        found, size = [], 0
        for part in parts:
            size += len(part)
            check(size)
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
                    check(len(text) * max(times, 0))
        elif operator == "+":
            check(sum(len(side) for side in sides if hasattr(side, "__len__")))
        elif operator == "%" and isinstance(left, str):
            narrow(left)
            check(len(left) + sum(len(str(part)) for part in _parts(right)))
        return self.charge(super().call_binop(context, operator, left, right))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N804, N805
        """A function or a method; methods of texts are looked at first."""
        plain = getattr(__obj, "__wrapped__", __obj)  # Jinja wraps `format`
        owner, name = getattr(plain, "__self__", None), getattr(plain, "__name__", "")
        if isinstance(owner, str | int) or owner is str:
            if name in _REFUSED_METHODS:
                raise SecurityError(f"it uses the method {name}, which no chat template needs")
            if name == "join" and len(args) == 1:
                args = (list(args[0]),)  # what a filter gives is counted too
        if isinstance(owner, str):
            check_method(owner, name, (*args, *kwargs.values()))
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


def _parts(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def _raise(message: str) -> None:
    raise TemplateError(message)
