"""The diffusion models that can read a conditioning: what each one's text encoder gave it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A diffusion model family, as data.

    Attributes:
        name: What the `target` widget shows.
        title: The name people know.
        encoder: The text encoder it was trained on.
        template: Preset of `vlm.prompts.templates`.
        layers: Layer indices (origin 0 = embeddings; negatives from the end) that it reads.
        layers_with_images: The same for a prompt with pictures; None = as `layers`.
        combine: How several layers become one tensor: `single` or `concat`.
        final_norm: Whether the last layer comes with the model's final norm.
        width: Width of the CONDITIONING it reads; None = any.
        pooled: Width of the pooled vector it also reads, 0 = none.
        drop: What of the sequence it never sees: "", "prefix" (everything up to the user's own
            words) or "system" (the system turn).
        pad_side: `right` = padded to `pad_to`; `left` = padded as the template says, mostly on the
            left, since a connector was trained on that template.
        pad_to: Fewest tokens where it pads on the right.
        min_pixels: Fewest pixels of a picture as the VLM sees it; None = the family's.
        max_pixels: Most pixels; None = the family's.
        source: Where these facts are from.
    """

    name: str
    title: str
    encoder: str
    template: str
    layers: tuple[int, ...] | None
    source: str
    layers_with_images: tuple[int, ...] | None = None
    combine: str = "single"
    final_norm: bool = True
    width: int | None = None
    pooled: int = 0
    drop: str = ""
    pad_side: str = "right"
    pad_to: int = 0
    min_pixels: int | None = None
    max_pixels: int | None = None

    def layers_for(self, images: bool) -> tuple[int, ...] | None:
        """The layers it reads from a prompt with or without pictures."""
        if images and self.layers_with_images is not None:
            return self.layers_with_images
        return self.layers

    def depth(self, num_layers: int, images: bool) -> int:
        """The deepest layer index (origin 0) it needs of a model that has `num_layers` of them.

        Raises:
            ValueError: The model is not that deep.
        """
        layers = self.layers_for(images) or (num_layers - 1,)
        missing = [layer for layer in layers if not -num_layers <= layer < num_layers]
        if missing:
            raise ValueError(
                f"{self.title} reads layer {missing[0]}, this VLM has the layers 0 to "
                f"{num_layers - 1}. Load {self.encoder} or a VLM of the same depth."
            )
        return max(layer % num_layers for layer in layers)

    @property
    def encoder_width(self) -> int | None:
        """Width of one layer of its text encoder."""
        if self.width is None or self.layers is None or self.combine != "concat":
            return self.width
        return self.width // len(self.layers)


MEGAPIXEL = 1024 * 1024

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="z-image",
            title="Z-Image",
            encoder="Qwen3-4B",
            template="z-image",
            layers=(-2,),
            layers_with_images=(-8,),
            width=2560,
            max_pixels=MEGAPIXEL,
            source="ComfyUI comfy/text_encoders/z_image.py; with pictures: Qwen3-VL x Z-Image "
            "research, recommended settings",
        ),
        Target(
            name="flux2-klein-4b",
            title="FLUX.2 klein 4B",
            encoder="Qwen3-4B",
            template="flux2-klein",
            layers=(9, 18, 27),
            combine="concat",
            width=7680,
            pad_to=512,
            max_pixels=MEGAPIXEL,
            source="ComfyUI comfy/text_encoders/flux.py",
        ),
        Target(
            name="flux2-klein-9b",
            title="FLUX.2 klein 9B",
            encoder="Qwen3-8B",
            template="flux2-klein",
            layers=(9, 18, 27),
            combine="concat",
            width=12288,
            pad_to=512,
            max_pixels=MEGAPIXEL,
            source="ComfyUI comfy/text_encoders/flux.py",
        ),
        Target(
            name="krea2",
            title="Krea 2",
            encoder="Qwen3-VL-4B",
            template="krea2",
            layers=tuple(range(2, 36, 3)),
            combine="concat",
            width=30720,
            drop="prefix",
            max_pixels=MEGAPIXEL,
            source="ComfyUI comfy/text_encoders/krea2.py",
        ),
        Target(
            name="qwen-image",
            title="Qwen-Image",
            encoder="Qwen2.5-VL-7B",
            template="qwen-image",
            layers=(-1,),
            width=3584,
            drop="prefix",
            max_pixels=MEGAPIXEL,
            source="ComfyUI comfy/text_encoders/qwen_image.py",
        ),
        Target(
            name="qwen-image-2.1",
            title="Qwen-Image 2.1",
            encoder="Qwen3-VL-8B",
            template="qwen-image-2.1",
            layers=(-1,),
            final_norm=False,
            width=4096,
            drop="system",
            max_pixels=MEGAPIXEL,
            source="Qwen-Image 2.1's pipeline; unverified: not compared with a native encoder",
        ),
        Target(
            name="flux1",
            title="FLUX.1",
            encoder="T5-XXL",
            template="chat",
            layers=None,
            width=4096,
            pooled=768,
            pad_side="left",
            source="X2I: a connector maps all layers of a VLM; its templates say how far to pad",
        ),
        Target(
            name="qwen2vl-flux",
            title="FLUX.1 (Qwen2VL-Flux)",
            encoder="Qwen2-VL-7B",
            template="qwen2vl-flux",
            layers=None,
            width=4096,
            pooled=768,
            min_pixels=512 * 28 * 28,
            max_pixels=512 * 28 * 28,
            source="Qwen2VL-Flux's model.py: a picture alone",
        ),
        Target(
            name="qwen2vl-flux-text",
            title="FLUX.1 (Qwen2VL-Flux with T5 text)",
            encoder="Qwen2-VL-7B",
            template="qwen2vl-flux",
            layers=None,
            width=4096,
            pooled=768,
            min_pixels=256 * 28 * 28,
            max_pixels=256 * 28 * 28,
            source="Qwen2VL-Flux's model.py: a picture and a prompt for T5",
        ),
        Target(
            name="chat",
            title="no particular model",
            encoder="-",
            template="chat",
            layers=(-1,),
            source="the tokenizer's own chat template, the last layer",
        ),
    )
}


def find_target(name: str) -> Target:
    """The target of that name.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    if name not in TARGETS:
        raise ValueError(f"There is no target {name!r}. Choose one of: {', '.join(TARGETS)}.")
    return TARGETS[name]
