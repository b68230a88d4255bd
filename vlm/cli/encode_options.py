"""The options of `python -m vlm encode`, in the order of the way they describe."""

from __future__ import annotations

import argparse
from typing import Any

from ..load import DTYPES
from ..prompts.templates import TEMPLATES
from ..targets import TARGETS
from ..tokens.alphas import SCHEDULES
from ..tokens.blend import METHODS
from ..tokens.filter import KEEP_PRESETS
from ..tokens.normalize import MODES
from ..tokens.select import COMBINES

DESCRIPTION = """\
Encodes pictures and words with a VLM and writes a CONDITIONING as safetensors. On the way:

  1. pictures, then the text, are laid out as the target's template says;
  2. the language model runs as deep as the layers asked for, never its head;
  3. layers are selected, tokens are filtered by what they are;
  4. with --normalize, tokens are brought to the statistics of text, which is what the target's
     own encoder gave it in training;
  5. with --alpha, they are blended with the text's conditioning.

Steps 4 and 5 need a reference: the same model encodes the text alone (--reference, else the
prompt's own words) and the target's text layer is taken, as the Qwen3-VL x Z-Image research does.

With --jobs or --folder the model loads once for many prompts, and --out is a folder of shards.
Stopped or killed at any point, the same command goes on where it was; a shard without .part is
complete. Started several times at once by torchrun or Slurm (or with --worker), each takes its
share of the shards.
"""

EPILOG = """\
Examples:
  a picture's style for Z-Image, with the research's recommended settings
    python -m vlm encode --model models/Qwen3-VL-4B-Instruct --image style.jpg \\
        --text "a red house by the sea" --target z-image \\
        --layers auto --keep text --normalize global --alpha 0.3 --out house.safetensors

  the image tokens themselves; they need their dimensions normalised one by one
    ... --keep image --normalize per_dim --alpha 0.3

  several layers in one
    ... --layers 9,18,27 --combine concat        ... --layers -2:0.7,-8:0.3

  a video; an animated GIF works too
    ... --video frames/ --fps 12

  two pictures where the words name them, after a conversation
    ... --image a.png --image b.png --placed --text "<image1> in the light of <image2>" \\
        --conversation talk.json

  every picture of a folder, with boat.txt beside boat.png as its prompt
    ... --folder pictures/ --keep image --normalize per_dim --out encoded/

  many prompts, one JSON object a line: id, and options as keys where a job has its own
    {"id": "boat-1", "text": "a boat at dusk", "image": ["style.jpg"], "layers": -8}
    ... --jobs jobs.jsonl --normalize global --alpha 0.3 --out encoded/
    torchrun --nproc-per-node 8 -m vlm encode ... --jobs jobs.jsonl --out encoded/
    sbatch --array=0-7 --wrap "python -m vlm encode ... --jobs jobs.jsonl --out encoded/"

  no model at hand: the built-in one with random weights shows the way
    python -m vlm encode --model tiny --text "a red house" --out test.safetensors
"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Adds the command with its options."""
    parser = commands.add_parser(
        "encode",
        help="pictures and words to a conditioning file",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _files(parser.add_argument_group("files and place"))
    _prompt(parser.add_argument_group("1. the prompt"))
    _many(parser.add_argument_group("many at once"))
    _tokens(parser.add_argument_group("2, 3. layers and tokens"))
    last = parser.add_argument_group("4, 5. normalise and blend")
    _normalize(last)
    _blend(last)
    return parser


def _files(group: Any) -> None:
    group.add_argument(
        "--model",
        required=True,
        metavar="PLACE",
        help="a model folder in Hugging Face layout (Qwen2-VL, Qwen2.5-VL, Qwen3-VL), a single "
        ".safetensors file of one, or: tiny",
    )
    group.add_argument(
        "--tokenizer",
        metavar="FOLDER",
        help="the tokenizer's folder (default: the model's, or that of the file)",
    )
    group.add_argument(
        "--out",
        required=True,
        metavar="FILE.safetensors",
        help="the file to write; with --jobs or --folder the folder, made if it is missing",
    )
    group.add_argument(
        "--report",
        metavar="FILE.png",
        help="also draw what the tokens are, how large, and what normalising did; each panel says "
        "what good looks like (default: none)",
    )
    group.add_argument(
        "--dtype",
        choices=("auto", *DTYPES),
        default="auto",
        help="of the model; auto = as in its files (default)",
    )
    group.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1; auto = cuda if it is there (default)"
    )
    group.add_argument(
        "--disk-cache",
        metavar="FOLDER",
        help="keep what was encoded here, and take it from here; safe to delete (default: none)",
    )
    group.add_argument(
        "--disk-cache-mb",
        type=_positive(float),
        default=4096,
        metavar="MB",
        help="bound of --disk-cache; least recently used first out (default 4096)",
    )


def _prompt(group: Any) -> None:
    words = group.add_mutually_exclusive_group()
    words.add_argument("--text", metavar="TEXT", help="the prompt; special tokens stay plain text")
    words.add_argument("--text-file", metavar="FILE", help="the prompt from a file in UTF-8")
    group.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="FILE",
        help="a picture before the text; repeat for several, in order",
    )
    group.add_argument(
        "--video",
        metavar="PLACE",
        help="a folder of frames (in the order of their names) or an animated GIF or WebP; stands "
        "after the pictures",
    )
    group.add_argument(
        "--fps",
        type=_positive(float),
        help="frames per second of --video (default: as the animation says, 24 for a folder)",
    )
    group.add_argument(
        "--audio",
        action="append",
        default=[],
        metavar="FILE",
        help="a sound after pictures and video, for a model that hears (Qwen2.5-Omni): WAV, FLAC, "
        "MP3, Ogg, or the sound of a film; repeat for several, in order",
    )
    group.add_argument(
        "--audio-in-video",
        action="store_true",
        help="the first --audio is the sound of --video and stands between its frames (default: "
        "behind it)",
    )
    group.add_argument(
        "--placed",
        action="store_true",
        help="<image1> in the text stands for the first picture, <image2> for the second, ... "
        "(default: pictures before the text, and such names are words)",
    )
    group.add_argument(
        "--conversation",
        metavar="FILE.json",
        help="turns before the prompt: a list such as "
        """[{"role": "user", "text": "What is it?", "image": ["a.png"]}, {"role": "assistant", """
        """"text": "A boat."}]; paths start at this file""",
    )
    _layout(group)


def _many(group: Any) -> None:
    source = group.add_mutually_exclusive_group()
    source.add_argument(
        "--jobs",
        metavar="FILE",
        help="JSON Lines: an object a line, with options as keys and optionally id, the name of "
        "its file; paths start at this file; the options given here hold where a line is silent",
    )
    source.add_argument(
        "--folder",
        metavar="DIR",
        help="a job for each picture in it; a .txt of the same name is its prompt, else --text; "
        "other files are left out and named",
    )
    group.add_argument(
        "--root",
        metavar="DIR",
        help="the folder that all files named in --jobs must lie in (default: that of the jobs "
        "file); files of the options given here may lie anywhere",
    )
    group.add_argument(
        "--allow-outside",
        action="store_true",
        default=None,
        help="let --jobs name any file of this machine; words of a file stand in what is made, so "
        "only for jobs that you wrote yourself",
    )
    group.add_argument(
        "--shard-size", type=_positive(int), metavar="N", help="jobs in a shard (default 100)"
    )
    group.add_argument(
        "--retry",
        action="store_true",
        default=None,
        help="also try the jobs again that failed in an earlier run (default: they are told of and "
        "left alone, unless their line has changed)",
    )
    group.add_argument(
        "--worker",
        metavar="I/N",
        help="which of how many workers this is, 0/4 to 3/4 (default: as torchrun or Slurm say, "
        "else the only one)",
    )


def _layout(group: Any) -> None:
    group.add_argument(
        "--target",
        choices=TARGETS,
        default="z-image",
        help="the diffusion model that will read it; decides template, layers and pixel budget: "
        f"{', '.join(TARGETS)} (default z-image)",
        metavar="NAME",
    )
    group.add_argument(
        "--template",
        choices=TEMPLATES,
        metavar="NAME",
        help=f"layout instead of the target's: {', '.join(TEMPLATES)}",
    )
    system = group.add_mutually_exclusive_group()
    system.add_argument("--system", metavar="TEXT", help="system prompt instead of the template's")
    system.add_argument(
        "--system-file",
        metavar="FILE",
        help="the system prompt from a file in UTF-8, such as a published prompt enhancer",
    )
    group.add_argument("--edit", metavar="TEXT", help="editing text of the x2i templates")
    for bound, word in (("min", "fewest"), ("max", "most")):
        group.add_argument(
            f"--{bound}-pixels",
            type=_positive(int),
            metavar="N",
            help=f"{word} pixels of a picture as the VLM sees it (default: the target's)",
        )


def _tokens(group: Any) -> None:
    group.add_argument(
        "--layers",
        default="auto",
        metavar="LAYERS",
        help="auto = the target's (default); -8; 9,18,27; 2:36:3; all; or with weights "
        "-2:0.7,-8:0.3. 0 = embeddings, -1 = after the last decoder layer",
    )
    group.add_argument(
        "--combine",
        choices=COMBINES,
        help="how several layers become one (default: as the layers and the target ask for)",
    )
    group.add_argument(
        "--no-final-norm", action="store_true", help="the last layer without the final norm"
    )
    group.add_argument(
        "--keep",
        default="text",
        metavar="WHAT",
        help=f"tokens that go on: {', '.join(KEEP_PRESETS)}, or roles such as system,text. text = "
        "all but pictures and their markers (default)",
    )


def _normalize(group: Any) -> None:
    group.add_argument(
        "--normalize",
        choices=("none", *MODES),
        default="none",
        metavar="MODE",
        help=f"{', '.join(MODES)}; auto = per_dim as soon as there are image tokens, else global; "
        "none (default)",
    )
    group.add_argument(
        "--reference",
        metavar="TEXT",
        help="words of the text-only reference (default: the prompt's)",
    )
    group.add_argument(
        "--reference-layers",
        default="auto",
        metavar="LAYERS",
        help="layers of the reference; auto = the target's for text (default)",
    )
    group.add_argument(
        "--stats",
        metavar="FILE",
        help="normalise against saved statistics instead",
    )
    group.add_argument(
        "--clip-sigma",
        type=float,
        default=3.0,
        metavar="S",
        help="per_dim and hybrid: clip at so many std, 0 = no clip (default 3)",
    )
    group.add_argument(
        "--weight",
        type=float,
        default=0.5,
        metavar="W",
        help="hybrid: share of per_dim, 0 to 1 (default 0.5)",
    )


def _blend(group: Any) -> None:
    group.add_argument(
        "--alpha",
        type=float,
        metavar="A",
        help="the picture's share in the blend with the reference: 0 = the text alone, 1 = the "
        "picture's side alone, 0.3 is recommended (default: no blend)",
    )
    group.add_argument(
        "--blend",
        choices=METHODS,
        default="auto",
        metavar="METHOD",
        help=f"{', '.join(METHODS)}; auto = pool where the picture's side is longer than the text, "
        "else interpolate (default auto)",
    )
    group.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default="constant",
        help="alpha along the tokens (default constant)",
    )


def _positive(kind: type) -> Any:
    """A number above 0."""

    def read(text: str) -> Any:
        number = kind(text)
        if not number > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return number

    read.__name__ = kind.__name__
    return read
