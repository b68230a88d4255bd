"""A diffusion model that can read a conditioning: what its own text encoder gives it, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ..pictures.native_resize import NativeResize

# When a row's own text encoder writes the mask: whenever it writes a tensor, or only beside pads.
ALWAYS, PADDED = "always", "padded"
MASK, POOLED = "attention_mask", "pooled_output"
SLOTS, TAGS = "image_slots", "minimax_token_tags"


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
        dimension_major: `concat` puts the layers' values of one dimension side by side, not whole
            layers.
        final_norm: Whether the last layer comes with the model's final norm.
        width: Width of the CONDITIONING it reads; None = any.
        pooled: Width of the pooled vector it also reads, 0 = none.
        drop: What of the sequence it never sees: "", "prefix" (everything up to the user's own
            words) or "system" (the system turn).
        drop_first: The same as a number of tokens, where its own encoder counts them.
        pad_side: `right` = padded to `pad_to`; `left` = padded as the template says, mostly on the
            left, since a connector was trained on that template.
        pad_to: Fewest tokens where it pads on the right.
        pad_multiple: Its tokens are padded on the right to a multiple of it, `most_tokens` at most.
        pad_position: Position of every pad token inside the VLM; None = they count on.
        most_tokens: Most tokens it was trained with, 0 = not known.
        min_pixels: Fewest pixels of a picture as the VLM sees it; None = the family's.
        max_pixels: Most pixels; None = the family's.
        resize: What its native encode node does to a picture before that; None = nothing.
        most_pictures: Most pictures that its native encode node takes, 0 = any number.
        mask: When its encoder writes an `attention_mask`: ALWAYS, PADDED, or "" = never.
        writes: What else it writes beside the tensor: POOLED (as None: it has no pooled vector),
            SLOTS (image tokens are dropped, the DiT puts reference latents there), TAGS.
        takes_embeddings: Its text encoder looks `embedding:name` in a prompt up.
        norms_tokens: It norms each token before all else, so that a factor on its states is lost.
        about_pictures: What is to be said where pictures are given; "" = nothing.
        about_quotes: What is to be said where words stand in quotation marks; "" = nothing.
        about_video: Why a video is refused; "" = it is not.
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
    dimension_major: bool = False
    final_norm: bool = True
    width: int | None = None
    pooled: int = 0
    drop: str = ""
    drop_first: int = 0
    pad_side: str = "right"
    pad_to: int = 0
    pad_multiple: int = 1
    pad_position: int | None = None
    most_tokens: int = 0
    min_pixels: int | None = None
    max_pixels: int | None = None
    resize: NativeResize | None = None
    most_pictures: int = 0
    mask: str = ""
    writes: tuple[str, ...] = ()
    takes_embeddings: bool = True
    norms_tokens: bool = False
    about_pictures: str = ""
    about_quotes: str = ""
    about_video: str = ""

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

    def padded_length(self, tokens: int) -> int:
        """Tokens of a prompt of so many once it is padded on the right."""
        rounded = -(-tokens // self.pad_multiple) * self.pad_multiple
        if tokens <= self.most_tokens:
            rounded = min(rounded, self.most_tokens)
        return max(self.pad_to, rounded)

    @property
    def pads(self) -> bool:
        """Whether it pads on the right."""
        return self.pad_to > 0 or self.pad_multiple > 1

    @property
    def always_empty(self) -> tuple[str, ...]:
        """Options that its text encoder writes as None."""
        return (POOLED,) if POOLED in self.writes else ()

    @property
    def embedding_key(self) -> str:
        """What ComfyUI calls its text encoder in files of embeddings for several."""
        return self.encoder.lower().replace("-vl-", "vl-").replace("-", "_")

    @property
    def encoder_width(self) -> int | None:
        """Width of one layer of its text encoder."""
        if self.width is None or self.layers is None or self.combine != "concat":
            return self.width
        return self.width // len(self.layers)
