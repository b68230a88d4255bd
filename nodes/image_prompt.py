"""Image Prompt: words and pictures to a CONDITIONING, the way that suits the diffusion model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from comfy_api.latest import io

from ..vlm.conditioning.check import Needs
from ..vlm.conditioning.entries import Entry, read_entries, write_entries
from ..vlm.conditioning.image_prompt import image_prompt, words_alone
from ..vlm.model import VLM
from ..vlm.targets import TARGETS, find_target
from .caches import PREFIX_CACHE_MB
from .clip import HUGGING_FACE, reads_for, target_of_clip, vlm_from_clip
from .devices import conditioning_device
from .fitting import misfit_note
from .picture import need_pictures
from .prompting import NAMED, TARGETS_OWN, placement_input, prompt_input
from .shown import shown
from .sockets import Model, Pictures, need
from .target import needs_of, targets_of
from .words import in_node_words, with_notes

AUTO = "auto"
READ_BY_A_MODEL = [
    name for name, row in TARGETS.items() if row.layers is not None and row.width is not None
]


class ImagePrompt(io.ComfyNode):
    """The whole way from words and pictures to a sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCImagePrompt",
            display_name="Image Prompt",
            category="VLM Conditioning/encode",
            description="Words and pictures to CONDITIONING in one node, the way that suits the "
            "diffusion model. Its line says which nodes of this pack do the same.",
            search_aliases=[
                "VLM",
                "image prompt",
                "picture prompt",
                "IPAdapter",
                "IP-Adapter",
                "IP Adapter",
                "Redux",
                "reference image",
                "image to conditioning",
                "CLIP Vision",
                "unCLIP",
                "style transfer",
            ],
            inputs=[
                prompt_input(),
                io.Combo.Input(
                    "target",
                    options=[AUTO, *READ_BY_A_MODEL],
                    default=AUTO,
                    tooltip="The diffusion model that will read the result. auto = the one on "
                    "`diffusion_model`, else the one that `clip` belongs to.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The diffusion model's own text encoder: it reads the words, and the "
                    "pictures too where it sees (Krea 2, Qwen-Image).",
                ),
                Model.Input(
                    "model",
                    optional=True,
                    tooltip="From VLM Loader or VLM From CLIP: looks at the pictures where `clip` "
                    "cannot (Z-Image, FLUX.2 klein); reads the words too where there is no `clip`.",
                ),
                Pictures.Input(
                    "pictures",
                    optional=True,
                    tooltip="From Picture Reference. None = the words alone.",
                ),
                io.Model.Input(
                    "diffusion_model",
                    optional=True,
                    tooltip="The diffusion model that will read the result: `auto` is then its "
                    "target, and what does not fit it is refused here.",
                ),
                placement_input(),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="Goes straight into a sampler."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        prompt: str,
        target: str = AUTO,
        clip: Any = None,
        model: Any = None,
        pictures: Any = None,
        diffusion_model: Any = None,
        image_placement: str = TARGETS_OWN,
    ) -> io.NodeOutput:
        """Finds the target and takes the way of it."""
        if model is not None:
            need(model, VLM, "model on Image Prompt")
        chain = need_pictures(pictures, "pictures on Image Prompt")
        start = time.perf_counter()
        needs = None if diffusion_model is None else needs_of(diffusion_model)
        goal = _goal(target, clip, diffusion_model, needs)
        if clip is not None:
            _check_clip(clip, goal)
        if model is None and clip is not None and chain and find_target(goal).layers is not None:
            model = vlm_from_clip(clip, HUGGING_FACE, PREFIX_CACHE_MB)
        placed = image_placement == NAMED
        words = words_alone(prompt, goal) if placed else prompt
        looks = model is not None and (chain or clip is None)
        note = misfit_note(model, goal) if looks else ""
        with _telling(note):
            result = image_prompt(
                prompt,
                chain,
                target=goal,
                model=model,
                words=None if clip is None else lambda: _encode(clip, words),
                needs=needs,
                device=conditioning_device(),
                placed=placed,
            )
        tokens = result.entries[0].tokens
        fits = f"fits {needs.title}" if needs is not None else f"for {find_target(goal).title}"
        steps = "; ".join(in_node_words(step) for step in result.steps)
        seconds = time.perf_counter() - start
        line = f"{fits}: {tokens.n} tokens, {tokens.width} wide; {steps}; {seconds:.1f} s"
        line = with_notes(line, [note] if note else [])
        return shown(line, write_entries(result.entries, conditioning_device()))


@contextmanager
def _telling(note: str) -> Iterator[None]:
    """Puts which model to choose behind what the library refuses."""
    try:
        yield
    except ValueError as error:
        if not note:
            raise
        raise ValueError(f"{error} {note}") from error


def _encode(clip: Any, prompt: str) -> list[Entry]:
    """What CLIP Text Encode makes of the words."""
    return read_entries(clip.encode_from_tokens_scheduled(clip.tokenize(prompt)))


def _goal(target: str, clip: Any, diffusion_model: Any, needs: Needs | None) -> str:
    """The target: the widget's, else the MODEL's, else the CLIP's.

    Raises:
        ValueError: None of them tells, or they differ.
    """
    known = targets_of(needs)
    if target != AUTO:
        if known and target not in known:
            raise ValueError(
                f"target on Image Prompt is {target}, diffusion_model is {needs.title}. Set target "
                f"to {AUTO}, or connect a {find_target(target).title} model."
            )
        return target
    if known:
        return known[0]
    if diffusion_model is not None:
        kind = type(diffusion_model.model.model_config).__name__
        raise ValueError(
            f"diffusion_model on Image Prompt is {kind}, which this node does not know. Connect "
            f"a model of one of its targets: {', '.join(READ_BY_A_MODEL)}."
        )
    own = None if clip is None else target_of_clip(clip)
    if own is None:
        raise ValueError(
            "Image Prompt cannot tell which diffusion model will read its result. Connect that "
            "model to diffusion_model, or set target."
        )
    return own


def _check_clip(clip: Any, goal: str) -> None:
    """Whether a CLIP is the target's own text encoder, as far as its class tells."""
    own = target_of_clip(clip)
    if own is None or reads_for(own, goal):
        return
    row = find_target(goal)
    raise ValueError(
        f"clip on Image Prompt is {find_target(own).title}'s text encoder, and the result is for "
        f"{row.title}. Connect {row.encoder} to clip, loaded by Load CLIP with the type of "
        f"{row.title}; a CLIP that only looks at pictures goes through VLM From CLIP to model."
    )


NODES = [ImagePrompt]
