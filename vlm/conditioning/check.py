"""Does a conditioning fit a diffusion model? What does not, in plain words, and what fixes it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..arguments import checked
from ..finite import is_finite
from ..quoted import told
from ..running.hidden_states import HiddenStates
from ..targets import TARGETS, Target, find_target
from ..tokens.beside import SLOTS
from ..tokens.seen import seen_by_target
from ..tokens.tokens import Tokens
from .entries import Entry

# How the turns of Qwen's templates begin, typed by hand or pasted.
_TEMPLATE = "<|im_start|>"
# Words that HunyuanImage's own tokenizer hands to ByT5.
_QUOTED = re.compile('"[^"\\n]+"|“[^”\\n]+”|‘[^’\\n]+’')


@dataclass(frozen=True)
class Needs:
    """What a diffusion model reads.

    Attributes:
        title: The model's name, for messages.
        width: Width D of its CONDITIONING; None = not known.
        pooled: Width of the pooled vector, 0 = none.
        least_tokens: Fewest tokens it was trained with, 0 = any number.
        most_tokens: Most tokens it was trained with, 0 = any number.
    """

    title: str
    width: int | None = None
    pooled: int = 0
    least_tokens: int = 0
    most_tokens: int = 0

    @classmethod
    def of(cls, target: str) -> Needs:
        """What a target of `vlm.targets` reads."""
        row = find_target(target)
        return cls(row.title, row.width, row.pooled, row.pad_to, row.most_tokens)


@dataclass(frozen=True)
class Finding:
    """One thing that does not fit.

    Attributes:
        stops: True where sampling fails or gives noise; False where it merely is not as trained.
        text: What is wrong, what was expected, how to fix it.
    """

    stops: bool
    text: str


@checked
def check(entries: list[Entry], needs: Needs) -> list[Finding]:
    """Compares a conditioning with what a model reads.

    Args:
        entries: Of the conditioning.
        needs: Of the model.

    Returns:
        What does not fit, worst first; an empty list where all does.
    """
    findings = {}
    for entry in entries:
        for finding in (
            *_widths(entry.tokens.width, needs),
            *_values(entry),
            *_pooled(entry, needs),
            *_latents(entry),
        ):
            findings[finding.text] = finding
        if entry.tokens.n < needs.least_tokens:
            text = (
                f"This conditioning has {entry.tokens.n} tokens, {needs.title} was trained on at "
                f"least {needs.least_tokens}. Set `target` to {_padding_target(needs)}, which "
                "pads the prompt, and `keep` to all."
            )
            findings[text] = Finding(False, text)
        for finding in too_many(entry.tokens.n, needs):
            findings[finding.text] = finding
    return sorted(findings.values(), key=lambda finding: not finding.stops)


def notes_of(h: HiddenStates, text: str) -> list[str]:
    """What is to be said of hidden states for their target, before anything reads them.

    Args:
        h: What was encoded.
        text: The words.

    Returns:
        Sentences; an empty list where there is nothing to say.
    """
    row = h.target
    found = [finding.text for finding in too_many(seen_by_target(h).n, Needs.of(row.name))]
    if text.lstrip().startswith(_TEMPLATE):
        found.append(
            f"The words begin with {_TEMPLATE}, and a template typed into the words is read as "
            "letters. Choose the layout with `template`, write the system text into `system`, and "
            "only the user's words here."
        )
    found += [
        f"{told(f'embedding:{name}')} was not found and is left out. Put its file into an "
        "embeddings folder, or take its name out of the words."
        for name in dict.fromkeys(h.prompt.missing)
    ]
    if h.has_images and row.about_pictures:
        found.append(row.about_pictures)
    if row.about_quotes and _QUOTED.search(text):
        found.append(row.about_quotes)
    return found


def misfit(t: Tokens, target: Target) -> str:
    """What is wrong with the width of tokens for a target; "" = it fits."""
    findings = _widths(t.width, Needs(target.title, target.width, target.pooled))
    return findings[0].text if findings else ""


def too_many(tokens: int, needs: Needs) -> list[Finding]:
    """What is to be said of so many tokens."""
    if not 0 < needs.most_tokens < tokens:
        return []
    text = (
        f"{needs.title} was trained with at most {needs.most_tokens} tokens, these are {tokens}. "
        "Lower `max_pixels`, give fewer pictures or words, or make a picture fewer tokens with "
        "`pool_tokens`."
    )
    return [Finding(False, text)]


def _widths(width: int, needs: Needs) -> list[Finding]:
    if needs.width is None or width == needs.width:
        return []
    text = (
        f"This conditioning is {width} wide, {needs.title} reads {needs.width}. "
        f"{_width_fix(width, needs)}"
    )
    return [Finding(True, text)]


def _width_fix(width: int, needs: Needs) -> str:
    """How to come to the width a model reads."""
    if needs.pooled:
        return "Put a connector made for it (`load_connector`) before the sampler."
    fitting = [row.title for row in TARGETS.values() if row.width == width]
    for row in TARGETS.values():
        if row.layers is None or row.combine != "concat":
            continue
        if row.width == needs.width and row.encoder_width == width:
            return (
                f"Set `target` to {row.name} and `layers` to auto: it concatenates "
                f"{len(row.layers)} layers."
            )
    named = _encoders(needs)
    fix = f"Load the VLM whose width fits {needs.title}{named}, or put a connector in between."
    if fitting:
        fix += f" This width fits {' and '.join(fitting)}."
    return fix


def _encoders(needs: Needs) -> str:
    """The text encoders that a model of this width was trained on, in brackets; "" = not known."""
    rows = [row for row in TARGETS.values() if row.width == needs.width]
    own = [row for row in rows if row.title.startswith(needs.title)]
    names = dict.fromkeys(row.encoder for row in own or rows)
    return f" ({' or '.join(names)})" if names else ""


def _padding_target(needs: Needs) -> str:
    """Names of the targets that pad to what a model was trained on, as the widget shows them."""
    rows = [row for row in TARGETS.values() if row.pad_to >= needs.least_tokens > 0]
    same = [row.name for row in rows if row.width == needs.width]
    return " or ".join(same or [row.name for row in rows])


def _values(entry: Entry) -> list[Finding]:
    if is_finite(entry.tokens.states):
        return []
    text = (
        "This conditioning holds NaN or Inf, finite numbers were expected. Set `dtype` to "
        "bfloat16, or weaken what stands before it."
    )
    return [Finding(True, text)]


def _pooled(entry: Entry, needs: Needs) -> list[Finding]:
    if not needs.pooled:
        return []
    pooled = entry.options.get("pooled_output")
    if pooled is None:
        text = (
            f"{needs.title} also reads a pooled vector of {needs.pooled}, this conditioning has "
            "none, so zeros would be used. Set `pooled_output` to that of a CLIP-L conditioning."
        )
        return [Finding(False, text)]
    if pooled.shape[-1] >= needs.pooled:
        return []
    text = (
        f"The pooled vector is {pooled.shape[-1]} wide, {needs.title} reads {needs.pooled}. Set "
        "`pooled_output` to that of a CLIP-L conditioning."
    )
    return [Finding(True, text)]


def _latents(entry: Entry) -> list[Finding]:
    """Whether there is a reference latent for each picture whose tokens were left out."""
    places = entry.tokens.beside.get(SLOTS)
    latents = len(entry.options.get("reference_latents") or ())
    if places is None or latents == len(places):
        return []
    text = (
        f"This conditioning leaves out the tokens of {len(places)} pictures for as many reference "
        f"latents, and has {latents}. Add one for each picture in the same order (Reference "
        "Latent), or set `target` to one that keeps the pictures' tokens, such as qwen-image-2.1."
    )
    return [Finding(True, text)]
