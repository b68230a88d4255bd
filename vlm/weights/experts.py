"""Fused experts: all of a layer's experts in two weights, of which two layouts are about.

Qwen3-VL-MoE's published files have the inputs first, `gate_up_proj` [E, D, 2I] and `down_proj`
[E, I, D]. So has its module in transformers 4.57; since 5.0 the module has the outputs first,
[E, 2I, D] and [E, D, I], and so have files that some of its versions saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

GATE_UP, DOWN = ".experts.gate_up_proj", ".experts.down_proj"

Shape = tuple[int, ...]


def has_outputs_first(gate_up: Shape, down: Shape) -> bool:
    """Whether the shapes of a layer's two weights are [E, 2I, D] and [E, D, I].

    The two together say it for any sizes, also where one of them is square.
    """
    return gate_up[1:] == (2 * down[2], down[1])


def find_turned(stored: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> list[str]:
    """Names of the experts' weights that files hold in the layout that a module does not want.

    Args:
        stored: Shapes in the files, by name.
        wanted: Shapes in the model, by the same names.
    """
    turned: list[str] = []
    for gate_up, shape in wanted.items():
        pair = gate_up, gate_up.removesuffix(GATE_UP) + DOWN
        if not gate_up.endswith(GATE_UP) or any(len(stored.get(name, ())) != 3 for name in pair):
            continue
        theirs = has_outputs_first(*(stored[name] for name in pair))
        if theirs != has_outputs_first(shape, wanted[pair[1]]):
            turned += pair
    return turned


def as_published(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes of a module's weights as the published files have them: inputs first."""
    published = dict(shapes)
    for name, shape in shapes.items():
        pair = name, name.removesuffix(GATE_UP) + DOWN
        if name.endswith(GATE_UP) and has_outputs_first(shape, shapes[pair[1]]):
            published |= swap(shapes, pair)
    return published


def swap(shapes: Mapping[str, Shape], names: Iterable[str]) -> dict[str, Shape]:
    """Shapes of some weights in the other layout."""
    return {name: (shapes[name][0], shapes[name][2], shapes[name][1]) for name in names}
