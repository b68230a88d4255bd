"""`python -m vlm convert`: weights as they are published, into the one file that ComfyUI loads."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from ..connectors.file import read_state_dict, write_state_dict
from ..connectors.lap_file import lap_metadata
from ..connectors.load import load_connector
from ..quoted import reason
from ..weights.join import join_shards
from ..weights.shards import INDEX_ENDING
from .output import say, size_of
from .progress import copying

DESCRIPTION = """\
Turns a .pt, .pth or .bin file of trained weights into safetensors, which cannot run code as it is
read. The file is read as tensors and plain data only; one that holds anything else is refused, and
nothing of it runs. The container around the weights and `module.` before their names are left out;
dtypes stay.

A folder or an index of shards (a diffusion model as diffusers writes it) becomes one safetensors
file, with the same names and dtypes. It is copied in small pieces, needs no memory to speak of, and
the same command goes on where one that was ended stopped.
"""

EPILOG = """\
Examples:
  python -m vlm convert connector.pt ComfyUI/models/vlm_connectors/qwen2vl-flux.safetensors
      Qwen2VL-Flux's connector; its t5_embedder.pt likewise
  python -m vlm convert qwen2.5-vl-7b_proj.pt x2i-7b.safetensors
      X2I's AlignNet, as {"config": ..., "state_dict": ...} or bare
  python -m vlm convert krea2.safetensors krea2-txtfusion.safetensors
      the LAP weights inside a Krea 2 checkpoint, and nothing else of it
  python -m vlm convert Qwen2vl-Flux/flux/transformer diffusion_models/qwen2vl-flux.safetensors
      Qwen2VL-Flux's FLUX.1, which is published in shards, for Load Diffusion Model
"""


def add_parser(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "convert",
        help="turn .pt or .bin weights, or a model in shards, into one safetensors file",
        description=DESCRIPTION,
        epilog=textwrap.dedent(EPILOG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        metavar="IN",
        help=".pt, .pth, .bin or .safetensors file; or the folder or index of a model in shards",
    )
    parser.add_argument(
        "result", metavar="OUT", help=".safetensors file to write; one of that name is replaced"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    if Path(options.source).is_dir() or options.source.endswith(INDEX_ENDING):
        _join(Path(options.source), Path(options.result))
        return
    tensors = read_state_dict(options.source)
    write_state_dict(tensors, options.result, lap_metadata(options.source))
    result = Path(options.result)
    size = size_of(result.stat().st_size)
    say(f"{result}: {len(tensors)} tensors, {size}, {_what_it_is(result)}")


def _join(source: Path, result: Path) -> None:
    """Shards into one file, with a bar."""
    with copying("Joining") as progress:
        joined = join_shards(source, result, progress)
    again = f", {size_of(joined.resumed)} of it by a run before" if joined.resumed else ""
    say(f"{result}: {joined.tensors} tensors, {size_of(joined.size)}{again}")


def _what_it_is(result: Path) -> str:
    """What the written file holds; other weights than a connector's are converted as well."""
    try:
        connector = load_connector(result)
    except ValueError as error:
        return f"not a connector ({reason(error)})"
    pooled = f" and {connector.pooled} pooled" if connector.pooled else ""
    made_for = f", made for {connector.made_for}" if connector.made_for else ""
    return f"{connector.title}, {connector.in_width} to {connector.width}{pooled}{made_for}"
