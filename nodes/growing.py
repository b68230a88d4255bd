"""Inputs that grow, such as `images`: over the HTTP API each of them has a key of its own.

ComfyUI drops what a prompt gives under a key that a node does not have, so that a picture in an
obvious other shape, `images: [link]` or `image: link`, would be missing without a word. A node with
such an input has `accept_all_inputs` in its schema, and what comes is looked at here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from comfy_api.latest import io


def has_other_shape(name: str, one: str, given: Any) -> str:
    """What is said of a growing input when the prompt is queued; "" where nothing is wrong.

    Args:
        name: Of the input: `images`.
        one: What the names of its parts begin with: `image`.
        given: What `validate_inputs` got; each link in it is None by then.
    """
    linked = isinstance(given, Mapping) and not any(v is not None for v in given.values())
    return "" if given is None or linked else _sentence(name, one, name)


def parts_of(name: str, one: str, given: Any) -> list[tuple[str, Any]]:
    """What came over the wires of a growing input, each by its key, in order.

    Raises:
        TypeError: The prompt gave it in another shape.
    """
    if not isinstance(given, Mapping | None):
        raise TypeError(_sentence(name, one, name))
    return [(f"{name}.{part}", value) for part, value in (given or {}).items() if value is not None]


def refusing(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """A node whose growing inputs are refused under another key; changed in place.

    Other keys that it does not have are left out, as ComfyUI does everywhere.

    Args:
        node: With an `execute` of its own.
    """
    execute = node.execute.__func__

    @functools.wraps(execute)
    def run(cls: type[io.ComfyNode], *args: Any, **kwargs: Any) -> Any:
        if not cls.ACCEPT_ALL_INPUTS:
            return execute(cls, *args, **kwargs)
        inputs = cls.define_schema().inputs
        known = {each.id for each in inputs}
        strange = sorted(kwargs.keys() - known)
        for each in inputs:
            if isinstance(each, io.Autogrow.Input):
                _refuse_other_keys(each, strange)
        return execute(cls, *args, **{key: kwargs[key] for key in kwargs if key in known})

    node.execute = classmethod(run)
    return node


def _refuse_other_keys(growing: io.Autogrow.Input, strange: Iterable[str]) -> None:
    one = growing.template.prefix
    for key in strange:
        if key.lower().startswith(one):
            raise TypeError(_sentence(growing.id, one, key))


def _sentence(name: str, one: str, key: str) -> str:
    return (
        f"{key[:60]!r} is no key of this node. Over the API each connection of {name} has a key of "
        f'its own: "{name}.{one}0": [node id, output], "{name}.{one}1": and so on.'
    )
