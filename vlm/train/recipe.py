"""A training recipe: every choice of a run as data, and what each one means."""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from typing import Any

from ..arguments import told
from ..prompts.templates import TEMPLATES
from ..targets import TARGETS

CONNECTORS = (
    "linear",
    "linear-norm",
    "norm-linear",
    "mlp",
    "alignnet-cnn",
    "alignnet-scale",
    "alignnet-mean",
    "lap",
)
ALIGNMENTS = ("auto", "tokens", "characters")
# What follows the warm-up, as transformers calls it.
SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
PRECISIONS = ("no", "bf16", "fp16")
CHOICES: dict[str, tuple[str, ...]] = {
    "target": tuple(TARGETS),
    "template": ("", *TEMPLATES),
    "connector": CONNECTORS,
    "align": ALIGNMENTS,
    "schedule": tuple(SCHEDULES),
    "precision": PRECISIONS,
    "vlm_dtype": ("auto", "float32", "bfloat16", "float16"),
}
# Numbers that begin at 1; all others begin at 0.
_FROM_ONE = ("steps", "batch", "accumulate", "every", "keep", "calibrate", "buffer")


def _key(default: Any, group: str, text: str) -> Any:
    return field(default=default, metadata={"group": group, "help": text})


@dataclass(frozen=True)
class TrainRecipe:
    """What is trained, on what, against what, and how; each field says what it means in its help.

    Raises:
        ValueError: A value that is out of its range or means nothing.
    """

    captions: str = _key(
        "", "captions", "file or folder: .txt (one a line), .jsonl, .parquet or WebDataset .tar"
    )
    caption_key: str = _key(
        "caption",
        "captions",
        "column, key or file ending that holds the caption; text files need none",
    )
    stream: bool = _key(
        False,
        "captions",
        "read while training, for more than fits into memory; shuffled within `buffer`",
    )
    buffer: int = _key(10_000, "captions", "captions among which a stream is shuffled")
    held_out: int = _key(
        64,
        "captions",
        "the first so many captions are never trained on; the loss on them is reported",
    )
    vlm: str = _key("", "vlm", "the frozen VLM: a folder as `vlm.load` reads it, or tiny")
    vlm_dtype: str = _key(
        "auto", "vlm", "of the VLM and the text encoder; auto = as their files say"
    )
    device: str = _key("auto", "vlm", "where VLM and connector run")
    template: str = _key("", "vlm", "prompt layout; empty = the target's")
    layers: str = _key(
        "auto",
        "vlm",
        "layers that the connector reads: one for linear and mlp, several for lap (2:36:3); "
        "auto = the target's, or every third",
    )
    target: str = _key(
        "z-image", "target", "the diffusion model that will read the connector's output"
    )
    teacher: str = _key(
        "",
        "target",
        "folder of the target's own text encoder, or of its diffusers pipeline; tiny = a "
        "random Qwen3",
    )
    teacher_device: str = _key("", "target", "where the text encoder runs; empty = as `device`")
    align: str = _key(
        "auto",
        "target",
        "which tokens are compared: tokens (one to one) or characters; auto = tokens where "
        "both read the same",
    )
    connector: str = _key("norm-linear", "connector", "what is trained")
    hidden: int = _key(
        0,
        "connector",
        "width inside an mlp, AlignNet or LAP's feed-forward; 0 = as published (mlp: as wide "
        "as it gives)",
    )
    heads: int = _key(32, "connector", "attention heads of a lap")
    start: str = _key("", "connector", "connector file to go on from; empty = new weights")
    pads: float = _key(0.1, "loss", "what pad tokens count beside words")
    sinks: float = _key(0.1, "loss", "what sink tokens count beside words")
    pooled: float = _key(1.0, "loss", "what the pooled vector counts, where the target reads one")
    steps: int = _key(1000, "optimiser", "updates of the weights")
    batch: int = _key(8, "optimiser", "captions a device and step")
    accumulate: int = _key(1, "optimiser", "steps whose gradients make one update")
    lr: float = _key(1e-3, "optimiser", "learning rate of AdamW")
    weight_decay: float = _key(0.01, "optimiser", "how fast AdamW shrinks the weights")
    warmup: int = _key(100, "optimiser", "updates over which the learning rate rises")
    schedule: str = _key("cosine", "optimiser", "how the learning rate falls afterwards")
    clip: float = _key(1.0, "optimiser", "largest norm of the gradient; 0 = any")
    eight_bit: bool = _key(False, "optimiser", "AdamW with 8-bit states, through bitsandbytes")
    precision: str = _key("no", "optimiser", "mixed precision of the connector")
    calibrate: int = _key(
        64, "optimiser", "captions over which means and spreads are measured before the first step"
    )
    seed: int = _key(0, "run", "of the weights, the order of captions and every draw")
    out: str = _key(
        "run", "run", "folder of the run: checkpoints, log.jsonl, connector.safetensors"
    )
    every: int = _key(200, "run", "updates between checkpoints, each with the held-out loss")
    keep: int = _key(2, "run", "checkpoints kept")
    cache: str = _key(
        "",
        "run",
        "folder that keeps what the frozen models made of each caption; empty = none; safe to "
        "delete",
    )
    cache_mb: float = _key(20_000.0, "run", "bound of `cache` in MB")
    licence: str = _key(
        "", "run", "a note on the licences of models and captions, for the connector's file"
    )

    def __post_init__(self) -> None:
        """Checks every value that can be checked without the models."""
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                shown = ", ".join(filter(None, choices))
                raise ValueError(f"{name} is {told(getattr(self, name))}, expected one of {shown}.")
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                least = 1 if each.name in _FROM_ONE else 0
                if not least <= value < math.inf:
                    raise ValueError(f"{each.name} is {value}, expected a number from {least}.")

    def need_places(self) -> None:
        """Refuses a recipe that names no captions or no models.

        Raises:
            ValueError: One of them is empty.
        """
        for name in ("captions", "vlm", "teacher"):
            if not getattr(self, name):
                raise ValueError(
                    f"{name} is empty: {help_of(name)}. Set it in the recipe or as --{name}."
                )


def keys() -> tuple[Field, ...]:
    """The keys of a recipe, in order; `metadata` holds `group` and `help`."""
    return fields(TrainRecipe)


def help_of(name: str) -> str:
    """What a key means."""
    return next(each.metadata["help"] for each in keys() if each.name == name)


def kind_of(key: Field) -> type:
    """bool, int, float or str."""
    return type(key.default)
