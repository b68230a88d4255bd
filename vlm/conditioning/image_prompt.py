"""Image prompt: words and pictures to one conditioning, the way that suits the target.

Nothing here is a way of its own: every step is one of the library's (`encode`, `select_layers`,
`filter_tokens`, `pool_tokens`, `apply_mask`, `normalize`, `blend`, `image_influence`, ranges of
entries), called as the nodes call it. What a target needs decides which:

- **Z-Image, FLUX.2 klein** (`BLENDED`): their own text encoder is blind. Each picture goes through
  a VLM with the words, its tokens are normalised against the words' own conditioning and blended
  into it: the Qwen3-VL × Z-Image research's recipe, with blend ``auto`` for its ``interpolate`` so
  that every token of the picture counts. Strength 1 is the recommended alpha of 0.3.
- **Krea 2, Qwen-Image and whatever reads layers of a VLM that sees** (all others): pictures stand
  in the prompt, as the target's own encoder has them. A strength below 1 is the share of what the
  diffusion model predicts that has the picture in its prompt, so that it fades continuously: two
  entries with ComfyUI's `strength`, which cost two predictions a step. Above 1 it is that of
  `image_influence`.
- **FLUX.1** reads no layer of a VLM: a connector does, so it is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..arguments import checked
from ..model import VLM
from ..pictures.reference import PictureReference
from ..prompts.markers import check_names
from ..prompts.templates import find_template
from ..targets import Target, find_target
from .check import Needs, check
from .entries import Entry
from .image_prompt_blended import Blended
from .image_prompt_inside import InPrompt
from .image_prompt_ways import Words

BLENDED = ("z-image", "flux2-klein-4b", "flux2-klein-9b")
MOST_PICTURES = 50
# What nobody has shown yet, said where a picture counts.
EXPERIMENTS = {
    "flux2-klein-4b": "an experiment: nobody has shown pictures in klein's text conditioning",
    "flux2-klein-9b": "an experiment: people report worse pictures with Qwen3-VL-8B in klein 9B",
}


@dataclass(frozen=True)
class ImagePrompt:
    """What `image_prompt` made.

    Attributes:
        entries: Of the conditioning, in time order, float32.
        steps: What was done, a sentence per picture; names of the library's functions in backticks.
    """

    entries: list[Entry]
    steps: list[str]


@checked
def image_prompt(
    prompt: str,
    pictures: Sequence[PictureReference] = (),
    *,
    target: str,
    model: VLM | None = None,
    words: Callable[[], list[Entry]] | None = None,
    needs: Needs | None = None,
    device: torch.device | str = "cpu",
    placed: bool = False,
) -> ImagePrompt:
    """Words and pictures to a conditioning.

    A picture of strength 0 is left out: with no other, the result is the words' own conditioning,
    bit for bit. From there the prediction changes continuously with the strength. Pictures with
    times of their own make entries for ranges of the schedule, in each of which only those count
    that are on; a step exactly on an edge reads both sides.

    Args:
        prompt: The words.
        pictures: In the order in which the VLM sees them.
        target: The diffusion model that will read the result (`vlm.targets`).
        model: The VLM that sees the pictures; also encodes the words where `words` is not given.
        words: Makes the entries of the words' own conditioning, called at most once, of
            `words_alone(prompt)` where they are placed; None = the model encodes them without a
            picture, at the target's layer.
        needs: Of the diffusion model: what does not fit it is refused, before a picture is looked
            at where the words show it.
        device: Where tokens are normalised and blended, and where the result lies.
        placed: Whether `<image1>` in the words stands for the chain's first picture, where it
            counts; see `VLM.encode`.

    Returns:
        The entries, and the steps taken.

    Raises:
        ValueError: A target that needs a connector or does not exist, neither model nor words,
            pictures without a model that sees, pictures that one prompt cannot hold together,
            widths that do not fit.
    """
    goal = find_target(target)
    counting = [(at, each) for at, each in enumerate(pictures, 1) if each.strength != 0]
    _check(goal, model, words, len(counting))
    said = Words(prompt, placed and not find_template(goal.template).writes_markers)
    if said.placed:
        check_names(prompt, len(pictures))
    own = _Words(said.around({}), goal, model, words, needs, device)
    if not counting:
        return ImagePrompt(own.entries(), [own.step])
    kind = Blended if goal.name in BLENDED else InPrompt
    way = kind(_seeing(model, goal), said, goal, own.entries, device)
    way.look(counting)
    entries: list[Entry] = []
    for start, end in _ranges(counting):
        active = [(at, each) for at, each in counting if each.start <= start and end <= each.end]
        made = way.make(active) if active else own.entries()
        entries += [cut for entry in made if (cut := entry.within(start, end)) is not None]
    _agree(entries, goal)
    _fit(entries, needs)
    steps = [own.step, *way.steps, EXPERIMENTS.get(goal.name, "")]
    return ImagePrompt(entries, [step for step in steps if step])


def words_alone(prompt: str, target: str) -> str:
    """The words of a placed prompt without the names of pictures, for an encoder that is blind.

    Args:
        prompt: The words.
        target: The diffusion model that will read the result (`vlm.targets`).
    """
    writes = find_template(find_target(target).template).writes_markers
    return Words(prompt, not writes).around({})


class _Words:
    """The words' own conditioning, made when it is asked for and once."""

    def __init__(
        self,
        prompt: str,
        goal: Target,
        model: VLM | None,
        words: Callable[[], list[Entry]] | None,
        needs: Needs | None,
        device: torch.device | str,
    ):
        self._made: list[Entry] | None = None
        self._given = words
        self._model, self._prompt, self._goal, self._device = model, prompt, goal, device
        self._needs = needs
        self.step = ""

    def _encode(self) -> list[Entry]:
        """By the model; without one `_check` has refused."""
        if self._model is None:
            return []
        states = self._model.encode(self._prompt, target=self._goal.name)
        return InPrompt.entries_of(states, self._device)

    def entries(self) -> list[Entry]:
        """The entries, which must fit what the diffusion model reads."""
        if self._made is None:
            self._made = self._encode() if self._given is None else self._given()
            if not (isinstance(self._made, list) and self._made):
                raise TypeError(
                    "`words` of `image_prompt` makes a list of entries, this made "
                    f"{type(self._made).__name__}. Give a function that returns `read_entries`."
                )
            _fit(self._made, self._needs)
            tokens = self._made[0].tokens
            by_model = "`encode`, `select_layers` auto"
            how = by_model if self._given is None else "by their own encoder"
            self.step = f"words: {how}, {tokens.n} tokens, {tokens.width} wide"
        return self._made


def _ranges(pictures: list[tuple[int, PictureReference]]) -> list[tuple[float, float]]:
    """The stretches of the schedule within which the same pictures count."""
    edges = {0.0, 1.0}.union(*({each.start, each.end} for _, each in pictures))
    ordered = sorted(edges)
    return list(zip(ordered[:-1], ordered[1:], strict=True))


def _fit(entries: list[Entry], needs: Needs | None) -> None:
    if needs is None:
        return
    stops = [finding.text for finding in check(entries, needs) if finding.stops]
    if stops:
        raise ValueError(" ".join(stops))


def _agree(entries: list[Entry], goal: Target) -> None:
    """Whether entries from the words' encoder and from the model can stand side by side."""
    widths = sorted({entry.tokens.width for entry in entries})
    if len(widths) > 1:
        raise ValueError(
            f"The words' conditioning and the model's are {widths[0]} and {widths[1]} wide. "
            f"Connect a model of the same width as {goal.encoder}, {goal.title}'s text encoder."
        )


def _check(goal: Target, model: VLM | None, words: object, pictures: int) -> None:
    if goal.layers is None:
        raise ValueError(
            f"{goal.title} reads no layer of a VLM as it is: a connector maps them. Open the "
            "workflow flux1-image-variation, or use VLM Encode Image/Text with VLM Connector "
            "Loader and Connector Apply instead of Image Prompt."
        )
    if model is None and words is None:
        raise ValueError(
            "Image Prompt has nothing that reads the words: neither `clip` nor `model` is there. "
            "Connect Load CLIP to `clip`, or VLM Loader to `model`."
        )
    if pictures > MOST_PICTURES:
        raise ValueError(
            f"This chain has {pictures} pictures, Image Prompt takes {MOST_PICTURES}. Take some "
            "out of the chain, or fewer of a batch."
        )


def _seeing(model: VLM | None, goal: Target) -> VLM:
    """The model, if it can look at pictures."""
    if model is None:
        raise ValueError(
            "Image Prompt has pictures and no model that sees them. Connect VLM Loader or VLM From "
            "CLIP to `model`."
        )
    if model.preprocessor is None:
        wide = "" if goal.encoder_width is None else f" that is {goal.encoder_width} wide"
        raise ValueError(
            f"{model.name} reads text only, and there are pictures. Leave it on `clip` for the "
            f"words, and connect a model that sees to `model`: VLM Loader with one{wide}, or "
            "VLM From CLIP behind a Load CLIP with such a file (for Z-Image "
            "qwen3vl_4b_fp8_scaled.safetensors, type krea2)."
        )
    return model
