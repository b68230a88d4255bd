"""A text encoder that ComfyUI has loaded, as a backbone: the weights people already have.

ComfyUI's own classes are not imported. What is used of them: `model` (with `config`,
`embed_tokens`, `layers`, `norm`, `compute_freqs_cis`) and, where it can see, `visual`; that is
how comfy/text_encoders/llama.py, qwen_vl.py and qwen3vl.py are built. They compute in float32 and
convert each weight as it is needed, whatever it is stored in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from ..families import Family, qwen2_5_vl
from ..families.layer_cache import LayerCache
from ..weights.lm_head import FileHead
from .backbone import TEXT, VISION, Backbone

# Temporal positions a second of video takes: Qwen2.5-VL's published vision_config.
TOKENS_PER_SECOND = 2


@dataclass(frozen=True)
class NativeMask:
    """A mask to add.

    Attributes:
        added: [1, 1, S, P + S], zero where a position may look.
        pads: Pad tokens in front, whose attention is zero.
    """

    added: torch.Tensor
    pads: int

    def blinded(self, attention: Callable) -> Callable:
        """An attention function whose output [1, S, D] is zero for the pad tokens in front."""
        if not self.pads:
            return attention

        def attend(*args: Any, **kwargs: Any) -> torch.Tensor:
            seen = attention(*args, **kwargs)
            seen[:, : self.pads] = 0
            return seen

        return attend


class NativeBackbone(Backbone):
    """A Qwen text encoder of ComfyUI."""

    dtype = torch.float32

    def __init__(
        self,
        transformer: torch.nn.Module,
        family: Family,
        device: torch.device,
        attention: Callable[[torch.device], Callable],
        head: FileHead | None = None,
    ):
        """Wraps a text encoder without changing anything of it.

        Args:
            transformer: The native model.
            family: Its family.
            device: Where ComfyUI runs it.
            attention: Gives the attention function for a device, as the native model would
                choose it for a masked sequence.
            head: The LM head in its file, for what ComfyUI leaves out; None = not known.
        """
        self.family = family
        self._transformer = transformer
        self.text = transformer.model
        self.visual = self._tower() if family.has_vision else None
        self.vision_config = SimpleNamespace(tokens_per_second=TOKENS_PER_SECOND)
        self.num_decoder_layers = len(self.text.layers)
        self.width = self.text.config.hidden_size
        self.vocabulary = self.text.config.vocab_size
        self.num_deepstack = len(getattr(self.visual, "deepstack_visual_indexes", ()))
        self._device = device
        self._attention = attention
        self._head = head

    def _tower(self) -> Any:
        return self._transformer.visual

    def device_of(self, part: str) -> torch.device:
        """Where ComfyUI runs it; both parts are one model there."""
        return self._device

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token embeddings; see `Backbone.embed`."""
        return self.text.embed_tokens(ids, out_dtype=self.dtype)

    def encode_vision(
        self, pixels: torch.Tensor, grid: tuple[int, ...]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Runs its own vision tower; see `Backbone.encode_vision`.

        Raises:
            ValueError: The tower has no weights.
        """
        if _lacks_weights(self.visual):
            raise ValueError(
                "This CLIP came without the weights of its vision tower, and pictures were given. "
                "For a GGUF file put the second one, with mmproj in its name, beside it under the "
                "name that its loader looks for, and load again; words alone run without it."
            )
        pixels = pixels.to(self._device, self.dtype)
        # The grid stays on the CPU, as ComfyUI's own preprocessing leaves it: towers count with it.
        seen = self.visual(pixels, torch.tensor([grid]))
        features, deepstack = seen if isinstance(seen, tuple) else (seen, [])
        return features, list(deepstack)

    def rotary(self, hidden: torch.Tensor, positions: torch.Tensor) -> Any:
        """Rotary embedding; see `Backbone.rotary`."""
        if self.text.config.rope_dims is None:  # a text-only model has one axis
            positions = positions[:1]
        return self.text.compute_freqs_cis(positions, hidden.device)

    def attention_mask(
        self, allowed: torch.Tensor | None, hidden: torch.Tensor, past: int, pads: int = 0
    ) -> Any:
        """A mask to add, as the native models build it: a quarter of the lowest number."""
        lowest = torch.finfo(hidden.dtype).min / 4
        if allowed is not None:
            added = hidden.new_zeros(allowed.shape).masked_fill_(~allowed, lowest)
            return NativeMask(added, pads)
        tokens = hidden.shape[1]
        return hidden.new_full((tokens, tokens), lowest).triu_(1) if tokens > 1 else None

    def run_layer(
        self,
        layer: int,
        hidden: torch.Tensor,
        rotary: Any,
        mask: Any,
        cache: LayerCache | None,
    ) -> torch.Tensor:
        """Runs one decoder layer, which overwrites `hidden`; see `Backbone.run_layer`."""
        past = None if cache is None else cache.before
        output, present = self._call(layer, hidden, rotary, mask, past)
        if cache is not None:
            cache.after(*present)
        return output

    def _call(
        self, layer: int, hidden: torch.Tensor, rotary: Any, mask: Any, past: Any
    ) -> tuple[torch.Tensor, Any]:
        """A native layer's own call: its states, and what it keeps of them."""
        attention = self._attention(hidden.device)
        if isinstance(mask, NativeMask):
            attention, mask = mask.blinded(attention), mask.added
        return self.text.layers[layer](
            x=hidden,
            attention_mask=mask,
            freqs_cis=rotary,
            optimized_attention=attention,
            past_key_value=past,
        )

    def norm(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """The final norm, where the file has one."""
        return None if self.text.norm is None else self.text.norm(hidden)

    def head(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """ComfyUI's own LM head; see `Backbone.head`.

        Qwen2.5-VL-7B has one in its files that ComfyUI leaves out, and its embeddings are none.
        """
        if self.text.norm is None:
            raise ValueError(
                "This CLIP's file was cut before its last layer, so it cannot write. Load a whole "
                "Qwen3-VL with Load CLIP, or a VLM with VLM Loader."
            )
        if self.family is qwen2_5_vl.FAMILY:
            if self._head is not None:
                return self._head_of_file(self._head)
            raise ValueError(
                "This CLIP is a Qwen2.5-VL without its LM head, which Load CLIP leaves out, so it "
                "cannot write. Choose its file or a VLM folder on VLM Loader, or a Qwen3-VL-4B "
                "file with type krea2 in Load CLIP."
            )
        return lambda hidden: self._transformer.logits(hidden)[0, -1]

    def _head_of_file(self, head: FileHead) -> Callable[[torch.Tensor], torch.Tensor]:
        weight = head.weight(self.vocabulary, self.width).to(self._device)
        return lambda hidden: torch.nn.functional.linear(hidden.to(weight.dtype), weight)[0, -1]

    @property
    def key_width(self) -> int:
        """Width of one token's keys, all heads together."""
        return self.text.config.num_key_value_heads * self.text.config.head_dim

    def converted_bytes(self, part: str) -> int:
        """Bytes of the largest weight of a part in float32."""
        module = self.visual if part == VISION else self.text.layers
        sizes = [weight.numel() for weight in module.parameters()]
        table = self.text.embed_tokens.weight
        if part == TEXT and table.dtype.itemsize == 1:  # converted whole before it is looked up
            sizes.append(table.numel())
        return max(sizes, default=0) * self.dtype.itemsize


def _lacks_weights(tower: Any) -> bool:
    """Whether linear layers have not the shape of their own weights.

    ComfyUI-GGUF gives those that are missing in a file zeros [in, out] instead of [out, in].
    """
    layers = (layer for layer in tower.modules() if isinstance(layer, torch.nn.Linear))
    return any(
        layer.weight is not None
        and tuple(layer.weight.shape) != (layer.out_features, layer.in_features)
        for layer in layers
    )
