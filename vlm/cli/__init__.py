"""The command line: `python -m vlm encode`, `train`, `evaluate` and the others."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from ..arguments import need_path
from ..quoted import printable, reason, told
from . import convert, demo, doctor, encode, evaluate, tiny, train
from .output import show_any_letter

DESCRIPTION = """\
What a vision-language model understands of pictures and words, as conditioning for diffusion
models. Everything runs on this machine; nothing is downloaded.
"""

EPILOG = """\
Start here:
  python -m vlm demo --out demo           the whole way on a built-in model, in seconds
  python -m vlm encode --help             every step of it, on your own pictures and model
  python -m vlm doctor                    what this installation has, and what is wrong with it
  python -m vlm tiny models/tiny          the built-in model as a folder, for tests and workflows
  python -m vlm convert IN OUT.safetensors   .pt or .bin weights, or a model in shards, in one file
  python -m vlm train --print-recipe tiny    how a connector is trained, as a file to edit
  python -m vlm evaluate --help           what results are worth, setting by setting
"""

# Layer choices start with a minus, which argparse would take for an option.
_LAYERS = ("--layers", "--reference-layers")
# Options that are files or folders, whatever the command.
_PLACES = {
    "audio", "cases", "clip", "comfyui", "dino", "disk_cache", "folder", "image", "jobs", "model",
    "out", "places", "prompts", "references", "report", "result", "root", "source", "stats",
    "system_file", "text_file", "tokenizer", "video",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: Words after `python -m vlm`; None = those of this process.

    Returns:
        Exit status: 0, 1 when some jobs of many failed or the doctor found a problem, 2 after an
        error that a person can mend, 130 when interrupted.
    """
    show_any_letter()
    parser = make_parser()
    options = parser.parse_args(_join_layers(sys.argv[1:] if arguments is None else arguments))
    try:
        for name in _PLACES & vars(options).keys():
            need_path(getattr(options, name), name)
        return options.run(options) or 0
    except torch.cuda.OutOfMemoryError:
        return _fail(
            "The model does not fit into the graphics card's memory. Lower --max-pixels, choose "
            "--dtype bfloat16, or --device cpu."
        )
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        return _fail(_sentence(error))
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m vlm",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (encode, demo, doctor, tiny, convert, train, evaluate):
        module.add_parser(commands)
    return parser


def _join_layers(arguments: Sequence[str]) -> list[str]:
    """`--layers -2:0.7,-8:0.3` as `--layers=-2:0.7,-8:0.3`."""
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] in _LAYERS and word[:1] == "-" and word[1:2].isdigit():
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _sentence(error: Exception) -> str:
    """What is said of an error; the system's own names a file, of any length."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{told(error.filename, 200)}: {error.strerror or reason(error)}"
    return str(error)


def _fail(message: str) -> int:
    """One line, whatever the message's own lines; the exit status."""
    sys.stderr.write(f"error: {printable(' '.join(message.split()))}\n")
    return 2
