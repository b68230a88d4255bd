"""`python -m vlm train`: a connector of one's own."""

from __future__ import annotations

import argparse
import textwrap
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..train.built_in import BUILT_IN
from ..train.recipe import CHOICES, keys, kind_of
from .output import say
from .progress import JobBar, quiet_transformers

if TYPE_CHECKING:
    from ..train.forecast import Forecast

DESCRIPTION = """\
Trains a connector; everything else is frozen. What it makes of a caption is made like what the
target's own text encoder makes of it (features), is made to be attended like it by the diffusion
model (attention), or serves that model to tell pictures from noise (flow). Runs on accelerate;
several processes: accelerate launch -m vlm train RECIPE.toml. The same command goes on where a run
was stopped. Needs `pip install .[train]`.
"""

EPILOG = """\
Examples:
  python -m vlm train --print-recipe qwen3vl-zimage-projection > mine.toml
      a recipe with every key and what it means; edit its places
  python -m vlm train mine.toml --batch 16
      trains; the result is connector.safetensors in the folder `out`
  python -m vlm train tiny --captions captions.txt
      the whole way on the built-in random models, without a download
"""


def add_parser(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train a connector on captions, or on pictures with captions",
        description=DESCRIPTION,
        epilog=textwrap.dedent(EPILOG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help=f"a .toml file, or a built-in recipe: {', '.join(BUILT_IN)}",
    )
    parser.add_argument(
        "--print-recipe", metavar="NAME", help="print a built-in recipe as a commented .toml file"
    )
    groups: dict[str, Any] = {}
    for key in keys():
        name = key.metadata["group"]
        group = groups.setdefault(name, parser.add_argument_group(name))
        _add_option(group, key)
    parser.set_defaults(run=run)


def _add_option(group: Any, key: Any) -> None:
    kind = kind_of(key)
    more: dict[str, Any] = {"metavar": {str: "TEXT", int: "N", float: "X"}.get(kind)}
    if kind is bool:
        more = {"action": argparse.BooleanOptionalAction}
    else:
        more["type"] = kind
    choices = [each for each in CHOICES.get(key.name, ()) if each]
    text = key.metadata["help"] + (f": {', '.join(choices)}" if choices else "")
    group.add_argument(
        "--" + key.name.replace("_", "-"),
        default=None,
        help=f"{text} (recipe key {key.name})".replace("%", "%%"),
        **more,
    )


def run(options: argparse.Namespace) -> None:
    """Runs the command.

    Raises:
        ValueError: Neither a recipe nor one to print.
    """
    from ..train.recipe_file import built_in_recipe, read_recipe
    from ..train.run import train

    if options.print_recipe:
        say(built_in_recipe(options.print_recipe).rstrip("\n"))
        return
    if not options.recipe:
        raise ValueError("There is no recipe. Name a .toml file, or one that is built in: tiny.")
    quiet_transformers()
    given = {key.name: getattr(options, key.name) for key in keys()}
    recipe = read_recipe(options.recipe, {k: v for k, v in given.items() if v is not None})
    with _Steps(recipe.steps) as steps:
        done = train(recipe, steps.tell, lambda found: say(_foretold(found, recipe.steps)))
    if done.resumed_at:
        say(f"went on from step {done.resumed_at}")
    say(f"{done.file}: loss {done.log[-1]['loss']:.4g} after {len(done.log)} steps")
    held = [row for row in done.log if "held_out" in row]
    if held:
        say(_held_out(held[-1]))


class _Steps(ExitStack):
    """A bar from the first step that this process makes, and a line for each checkpoint."""

    def __init__(self, total: int):
        """Nothing is drawn yet: loading comes first."""
        super().__init__()
        self._total = total
        self._bar: JobBar | None = None

    def tell(self, row: dict[str, float]) -> None:
        """A row of the log."""
        if self._bar is None:
            bar = JobBar(self._total, int(row["step"]) - 1, "Training", "step")
            self._bar = self.enter_context(bar)
        self._bar.step()
        if "held_out" in row:
            self._bar.say(f"step {row['step']}: loss {row['loss']:.4g}; {_held_out(row)}")


def _held_out(row: dict[str, float]) -> str:
    if "constant" not in row:
        return f"held-out captions {row['held_out']:.4g}"
    share = row["held_out"] / row["constant"]
    return (
        f"held-out captions {row['held_out']:.4g}, {share:.2f} of the best constant's "
        f"{row['constant']:.4g}"
    )


def _foretold(found: Forecast, steps: int) -> str:
    return (
        f"a step takes about {found.memory / 1e9:.2g} GB and at least {_long(found.seconds)}; "
        f"{steps} steps take at least {_long(found.seconds * steps)}"
    )


def _long(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.0f} hours"
