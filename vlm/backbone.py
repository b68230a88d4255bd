"""A Hugging Face VLM taken apart: embeddings, vision tower, one decoder layer at a time."""

from __future__ import annotations

import copy
from typing import Any

import torch

from .families import Family
from .patch_embed import PatchEmbed


class LayerCache:
    """Keys and values of one decoder layer for the positions before the ones that run.

    Stands where transformers passes its cache, for a single call of a single layer.
    """

    def __init__(self, past: tuple[torch.Tensor, torch.Tensor] | None = None):
        """Takes the past keys and values, each [1, heads, P, head width], or none."""
        self.past = past
        self.new: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, options: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts the past before new keys and values; called by the layer's attention."""
        self.new = (keys, values)
        if self.past is None:
            return keys, values
        return torch.cat([self.past[0], keys], dim=2), torch.cat([self.past[1], values], dim=2)


class Backbone(torch.nn.Module):
    """The parts of a VLM that hidden states need. Never the LM head.

    Attributes:
        model: The base model of transformers (with `visual` and `language_model`).
        num_decoder_layers: Decoder layers; hidden states have one layer more.
        width: Width D of the residual stream.
        num_deepstack: Decoder layers after which vision features are added again.
        device: Where the weights are; set by who moves them.
    """

    def __init__(self, model: torch.nn.Module, family: Family):
        """Wraps a base model, already in eval mode, and gives it our patch embedding."""
        super().__init__()
        model.visual.patch_embed = PatchEmbed(model.visual.patch_embed)
        self.model = model
        self.family = family
        self.num_decoder_layers = len(self.text.layers)
        self.width = self.text.norm.weight.shape[0]
        self.num_deepstack = len(getattr(model.visual, "deepstack_visual_indexes", ()))
        self.device = next(model.parameters()).device

    @property
    def text(self) -> torch.nn.Module:
        """The language model; no submodule of its own, or its weights would count twice."""
        return self.model.language_model

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights and of the residual stream."""
        return self.text.norm.weight.dtype

    @property
    def vocabulary(self) -> int:
        """Token ids it has embeddings for."""
        return self.text.embed_tokens.num_embeddings

    @property
    def vision_config(self) -> Any:
        """The vision tower's part of config.json."""
        return self.model.config.vision_config

    def run_bytes(self, tokens: int, patches: int) -> int:
        """Estimate of a run's memory beside the weights, in bytes.

        Residual stream, attention and feed-forward of one layer live at a time, of the decoder
        or of the vision tower, whichever is larger.

        Args:
            tokens: N of the sequence.
            patches: P of its largest picture.
        """
        text = tokens * (8 * self.width + 3 * _widest(self.text))
        vision = patches * 6 * _widest(self.model.visual)
        return max(text, vision) * self.dtype.itemsize

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token embeddings: int64 [1, N] to [1, N, D]."""
        return self.text.embed_tokens(ids)

    def see(
        self, pixels: torch.Tensor, grid: tuple[int, int, int]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Runs the vision tower on one picture or video.

        Args:
            pixels: Patches [P, C * T * p * p], normalised.
            grid: Patch grid (time, rows, columns) before the merge.

        Returns:
            Features [n, D] after the merge, and one [n, D] per DeepStack level.
        """
        grid_thw = torch.tensor([grid], device=self.device)
        pixels = pixels.to(self.device, self.dtype)
        return self.family.unpack_vision(self.model.get_image_features(pixels, grid_thw))

    def rotary(self, hidden: torch.Tensor, positions: torch.Tensor) -> Any:
        """Rotary embedding of M-RoPE positions int64 [3, N], as the layers take it."""
        return self.text.rotary_emb(hidden, positions[:, None, :])

    def run_layer(
        self,
        layer: int,
        hidden: torch.Tensor,
        rotary: Any,
        mask: torch.Tensor | None,
        cache: LayerCache | None,
    ) -> torch.Tensor:
        """Runs one decoder layer, without DeepStack.

        Args:
            layer: Decoder layer, origin 0.
            hidden: [1, S, D].
            rotary: Of the same S positions.
            mask: True where position q may look at position k, [1, 1, S, P + S]; None = causal.
            cache: Past keys and values; takes the new ones.

        Returns:
            [1, S, D].
        """
        output = self.text.layers[layer](
            hidden,
            position_embeddings=rotary,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        # transformers 4.57 returns a tuple for Qwen2-VL and Qwen2.5-VL.
        return output[0] if isinstance(output, tuple) else output

    def final_norm(self) -> torch.nn.Module:
        """A copy of the final norm on the CPU, for states that outlive the weights' stay."""
        return copy.deepcopy(self.text.norm).cpu()


def _widest(module: torch.nn.Module) -> int:
    """The widest output of the linear layers in a module."""
    linear = (part for part in module.modules() if isinstance(part, torch.nn.Linear))
    return max((part.out_features for part in linear), default=0)
