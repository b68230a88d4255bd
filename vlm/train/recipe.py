"""A training recipe: every choice of a run as data, and what each one means."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any

from ..arguments import MOST, need_path
from ..prompts.templates import TEMPLATES
from ..quoted import told
from ..targets import TARGETS
from ..tokens.filter import KEEP_PRESETS
from .dit import CELL

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
LOSSES = ("features", "attention", "flow")
CAPTION, PICTURE = "caption", "picture"
TIMES = ("uniform", "logit_normal")  # as diffusers calls them
TRACKERS = ("", "tensorboard")  # as accelerate calls them
CHOICES: dict[str, tuple[str, ...]] = {
    "target": tuple(TARGETS),
    "template": ("", *TEMPLATES),
    "connector": CONNECTORS,
    "align": ALIGNMENTS,
    "sees": (CAPTION, PICTURE, "both"),
    "tokens": tuple(KEEP_PRESETS),
    "times": TIMES,
    "schedule": tuple(SCHEDULES),
    "precision": PRECISIONS,
    "tracker": TRACKERS,
    "vlm_dtype": ("auto", "float32", "bfloat16", "float16"),
}
PLACES = ("captions", "vlm", "teacher", "dit", "start", "out", "cache")
# Numbers that begin at 1; all others begin at 0.
_FROM_ONE = ("size", "steps", "batch", "accumulate", "every", "keep", "calibrate", "buffer")


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
    picture_key: str = _key(
        "image",
        "captions",
        "the same of pictures, where a recipe needs them: bytes, or files in the captions' folder",
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
    vlm_dtype: str = _key("auto", "vlm", "of all frozen models; auto = as their files say")
    device: str = _key("auto", "vlm", "where VLM, connector and its diffusion model run")
    template: str = _key("", "vlm", "prompt layout; empty = the target's")
    layers: str = _key(
        "auto",
        "vlm",
        "layers that the connector reads: one for linear and mlp, several for lap (2:36:3); "
        "auto = the target's, or every third",
    )
    sees: str = _key("caption", "vlm", "what the VLM is shown")
    tokens: str = _key("all", "vlm", "tokens that a linear layer or mlp is trained on")
    target: str = _key(
        "z-image", "target", "the diffusion model that will read the connector's output"
    )
    teacher: str = _key(
        "",
        "target",
        "folder of the target's own text encoder, or of its diffusers pipeline; tiny = a "
        "random Qwen3",
    )
    teacher_device: str = _key(
        "",
        "target",
        "where the text encoder runs, and what attention learns from; empty = as `device`",
    )
    align: str = _key(
        "auto",
        "target",
        "which tokens are compared: tokens (one to one) or characters; auto = tokens where "
        "both read the same",
    )
    dit: str = _key(
        "",
        "target",
        "folder of the diffusers pipeline whose frozen FLUX.1 or Z-Image attention and flow run "
        "through",
    )
    size: int = _key(1024, "target", "side of the pictures that it makes, in pixels")
    guidance: float = _key(3.5, "target", "what FLUX.1 [dev] is told; X2I's")
    checkpointing: bool = _key(
        False, "target", "its blocks are computed again in the backward: less memory, more time"
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
    features: float = _key(
        1.0, "loss", "what counts the distance to the text encoder's states; 0 = no such loss"
    )
    attention: float = _key(
        0.0,
        "loss",
        "what counts X2I's distance of the diffusion model's attention; it is a sum over tokens "
        "and blocks, so thousands where `features` is 1",
    )
    flow: float = _key(
        0.0, "loss", "what counts the diffusion model's own loss on pictures (flow matching)"
    )
    blocks: str = _key(
        "all",
        "loss",
        "of attention: all, or kinds with numbers behind a dot: double, single.0:38:2 (FLUX.1); "
        "noise_refiner, context_refiner, layers (Z-Image)",
    )
    streams: str = _key(
        "image,text", "loss", "of attention: tokens of the image, of the text, or both"
    )
    temperature: float = _key(3.0, "loss", "of attention: softens both sides; 3 is X2I's")
    times: str = _key("uniform", "loss", "of flow: how the share of noise is drawn")
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
    report: bool = _key(True, "run", "draw report.png beside the connector, with matplotlib")
    tracker: str = _key(
        "", "run", "where each update is logged beside log.jsonl: tensorboard; empty = nowhere"
    )
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
                if not least <= value < MOST:
                    raise ValueError(
                        f"{each.name} is {told(value)}, expected a number from {least} to {MOST:g}."
                    )
            elif isinstance(value, str) and each.name in PLACES:
                need_path(value, each.name)
        if not any(getattr(self, name) for name in LOSSES):
            raise ValueError(f"Nothing is learnt: {', '.join(LOSSES)} are all 0. Set one.")
        if self.size % CELL:
            raise ValueError(f"size is {self.size}, expected a multiple of {CELL} pixels.")
        if not self.temperature:
            raise ValueError("temperature is 0, expected a number above 0; 3 is X2I's.")

    @property
    def needs_dit(self) -> bool:
        """Whether a loss runs through the diffusion model."""
        return self.attention > 0 or self.flow > 0

    @property
    def needs_pictures(self) -> bool:
        """Whether every caption has to have a picture."""
        return self.flow > 0 or self.sees != CAPTION

    def need_places(self) -> None:
        """Refuses a recipe that names no captions or not all of its models.

        Raises:
            ValueError: One of them is empty.
        """
        for name in ("captions", "vlm", "teacher", *(("dit",) if self.needs_dit else ())):
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
