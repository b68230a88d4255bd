"""`python -m vlm tiny`: the built-in model as a folder."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from ..tiny.folder import FAMILIES, write_tiny
from .output import say, size_of
from .progress import busy

DESCRIPTION = """\
Writes the built-in model as a folder in Hugging Face layout: random weights, a real byte-level
tokenizer, the family's real structure (M-RoPE, DeepStack, window attention) at toy size. Every
parameter comes from a generator seeded by its name: the same bits everywhere.
"""

EPILOG = """\
Examples:
  python -m vlm tiny models/tiny
      Qwen3-VL, 64 wide, 36 decoder layers, under 10 MB; vlm.load("models/tiny") reads it
  python -m vlm tiny ComfyUI/models/VLM/tiny --width 2560
      as wide as Z-Image reads: VLM Loader lists it, and workflows run without a download
  python -m vlm tiny models/tiny25 --family qwen2_5_vl --layers 8
"""


def add_parser(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "tiny",
        help="write the built-in tiny model as a folder",
        description=DESCRIPTION,
        epilog=textwrap.dedent(EPILOG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="OUT", help="folder to write; made if it is missing")
    parser.add_argument(
        "--family", choices=FAMILIES, default="qwen3_vl", help="VLM family (default qwen3_vl)"
    )
    parser.add_argument(
        "--width",
        type=int,
        default=64,
        help="width of the hidden states, a multiple of 16 (default 64)",
    )
    parser.add_argument("--layers", type=int, default=36, help="decoder layers (default 36)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    with busy("Drawing random weights"):
        folder = write_tiny(options.folder, options.family, options.width, options.layers)
    total = sum(file.stat().st_size for file in folder.iterdir())
    say(
        f"{folder}: {options.family}, {options.width} wide, {options.layers} decoder layers, "
        f"{size_of(total)}"
    )
