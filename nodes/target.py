"""VLM Check Target: does this conditioning fit that model? Asked before the sampler runs."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..vlm.conditioning.check import Needs, check
from ..vlm.conditioning.entries import read_entries
from ..vlm.targets import TARGETS
from .shown import shown
from .words import in_node_words

STOP, WARN = "stop", "warn"
# By what ComfyUI calls the model: its name, and the layer that reads the conditioning.
_READERS = {
    "flux": ("FLUX.1", "txt_in"),
    "flux2": ("FLUX.2", "txt_in"),
    "lumina2": ("Lumina 2", "cap_embedder.1"),
    "qwen_image": ("Qwen-Image", "txt_in"),
    "minimax_h3": ("MiniMax H3", "condition_proj"),
    "mage_flow": ("Mage-Flow", "txt_in"),
    "boogu": ("Boogu", "time_caption_embed.caption_embedder.1"),
    "joyimage": ("JoyImage", "condition_embedder.text_embedder.linear_1"),
    "ideogram4": ("Ideogram 4", "llm_cond_proj"),
}
_KREA2 = "Krea 2"  # reads several layers side by side, with one layer for each
# By the beginning of its class, where one name stands for several models.
_KINDS = {
    "ZImage": ("Z-Image", "cap_embedder.1"),
    "HunyuanImage21": ("HunyuanImage 2.1", "txt_in.input_embedder"),
}
# Which targets a MODEL can be, by its title.
_ROWS = {
    "FLUX.1": ("flux1",),
    "FLUX.2": ("flux2-klein-4b", "flux2-klein-9b"),
    "Z-Image": ("z-image",),
    "Qwen-Image": (
        "qwen-image",
        "qwen-image-edit-plus",
        "qwen-image-2.1",
        "qwen-image-2.1-edit",
    ),
    "Krea 2": ("krea2", "krea2-edit"),
    "MiniMax H3": ("minimax-h3",),
    "Mage-Flow": ("mage-flow",),
    "Boogu": ("boogu",),
    "JoyImage": ("joyimage",),
    "Ideogram 4": ("ideogram4",),
    "HunyuanImage 2.1": ("hunyuan-image",),
}


def needs_of(model: Any) -> Needs | None:
    """What a loaded MODEL reads, from its own layers; None where it has none that is known."""
    config = model.model.model_config
    kind = config.unet_config.get("image_model")
    network = model.model.diffusion_model
    if kind == "krea2":
        return _with_bounds(_KREA2, network.txtlayers * network.txtdim, 0)
    name = type(config).__name__
    special = (reader for begin, reader in _KINDS.items() if name.startswith(begin))
    title, layer = next(special, _READERS.get(kind, ("", "")))
    if not title:
        return None
    pooled = getattr(getattr(network, "params", None), "vec_in_dim", None) or 0
    reads_pooled = kind in ("flux", "qwen_image")
    return _with_bounds(
        title, network.get_submodule(layer).in_features, pooled if reads_pooled else 0
    )


def _with_bounds(title: str, width: int, pooled: int) -> Needs:
    """A model's needs with the fewest and most tokens of its targets."""
    rows = [TARGETS[name] for name in _ROWS.get(title, ())]
    return Needs(
        title,
        width,
        pooled,
        least_tokens=max((row.pad_to for row in rows), default=0),
        most_tokens=max((row.most_tokens for row in rows), default=0),
    )


def targets_of(needs: Needs | None) -> list[str]:
    """Names of the targets that a MODEL can be, one of its width first; none = not known."""
    rows = () if needs is None else _ROWS.get(needs.title, ())
    return sorted(rows, key=lambda name: TARGETS[name].width != needs.width)


class CheckTarget(io.ComfyNode):
    """Compares a CONDITIONING with the model that will read it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCCheckTarget",
            display_name="VLM Check Target",
            category="VLM Conditioning/encode",
            description="Says in plain words whether a conditioning fits a model, and which node "
            "fixes what does not. The conditioning goes on unchanged.",
            search_aliases=["VLM", "check", "width", "mat1 and mat2", "shape mismatch"],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="What the sampler would get."),
                io.Model.Input("model", tooltip="The diffusion model that would read it."),
                io.Combo.Input(
                    "on_misfit",
                    options=[STOP, WARN],
                    default=STOP,
                    tooltip="stop = an error where sampling would fail or give noise; warn = only "
                    "the line on this node.",
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning", tooltip="As it came in.")],
        )

    @classmethod
    def execute(cls, conditioning: Any, model: Any, on_misfit: str) -> io.NodeOutput:
        """Checks every entry."""
        entries = read_entries(conditioning, "conditioning on VLM Check Target")
        needs = needs_of(model)
        if needs is None:
            kind = type(model.model.model_config).__name__
            return shown(f"{kind} is not a model this node knows: nothing compared", conditioning)
        findings = check(entries, needs)
        stops = [in_node_words(finding.text) for finding in findings if finding.stops]
        if stops and on_misfit == STOP:
            raise ValueError(" ".join(stops))
        tokens = entries[0].tokens
        line = " ".join(in_node_words(finding.text) for finding in findings)
        fits = f"fits {needs.title}: {tokens.n} tokens, {tokens.width} wide"
        return shown(line or fits, conditioning)


NODES = [CheckTarget]
