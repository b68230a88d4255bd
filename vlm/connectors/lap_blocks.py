"""Layerwise Attention Pooling: the network, in its two layouts.

Per token the chosen layers of a VLM are a short sequence. Two transformer blocks attend over it, a
linear layer pools it to one vector, and a refiner of two more blocks attends over the tokens.

`unifusion` is the paper's block (UniFusion, section 3 and appendix A); `txtfusion` is the one whose
weights are public, inside Krea 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from ..files.units import MEGABYTE

UNIFUSION, TXTFUSION = "unifusion", "txtfusion"
BLOCKS = 2  # over layers, and again over tokens
# Rows (a token in one layer, or a token) that go through a block at a time. On a CPU a matrix
# product reads all its weights for each of these pieces: with this many that is a twentieth of its
# time, with half as many a tenth. Elsewhere each operation also costs its start, whatever its size,
# so as many rows go as fit into PIECE_BYTES.
ROWS = 384
PIECE_BYTES = 256 * MEGABYTE
EPS = {UNIFUSION: 1e-6, TXTFUSION: 1e-5}

# Gives the chosen layers [B, L, n, D] of the tokens from the first number up to the second.
Layers = Callable[[int, int], torch.Tensor]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a LAP.

    Attributes:
        layout: UNIFUSION or TXTFUSION.
        width: Width D.
        layers: Layers L that are pooled.
        heads: Attention heads.
        key_heads: Heads of keys and values; a divisor of `heads`.
        hidden: Width inside the feed-forward.
    """

    layout: str
    width: int
    layers: int
    heads: int
    key_heads: int
    hidden: int


@dataclass(frozen=True)
class Origin:
    """Where LAP weights come from.

    Attributes:
        file: Name of their file.
        vlm: The model they were trained on, "" = not known.
        layers: Layer indices (origin 0 = embeddings) they pool; None = every third.
        target: The diffusion model they were trained for, "" = not known.
    """

    file: str = "these LAP weights"
    vlm: str = ""
    layers: tuple[int, ...] | None = None
    target: str = ""


class UniFusionBlock(nn.Module):
    """x += post_norm(attn(pre_norm(x))); x += W2 silu(W1 x). RMSNorm, no biases."""

    def __init__(self, sizes: Sizes):
        """Makes the weights."""
        super().__init__()
        self.sizes = sizes
        width = sizes.width
        self.prenorm = nn.RMSNorm(width, EPS[UNIFUSION])
        self.attn = nn.ModuleDict(_projections(sizes, ("wq", "wk", "wv", "wo")))
        self.postnorm = nn.RMSNorm(width, EPS[UNIFUSION])
        self.mlp = nn.ModuleDict(
            {
                "w1": nn.Linear(width, sizes.hidden, bias=False),
                "w2": nn.Linear(sizes.hidden, width, bias=False),
            }
        )

    def keys_values(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values, each [B, S, key heads * head width], of a sequence [B, S, D]."""
        inside = self.prenorm(x)
        return self.attn.wk(inside), self.attn.wv(inside)

    def forward(
        self, x: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Rows [B, S, D] that attend to keys and values; mask [B, 1, 1, keys], True = read."""
        return self.feed(self.attend(x, k, v, mask))

    def attend(
        self, x: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The block's first half, behind which keys and values may go."""
        inside = _attend(self.attn.wq(self.prenorm(x)), k, v, self.sizes, mask)
        return x + self.postnorm(self.attn.wo(inside))

    def feed(self, x: torch.Tensor) -> torch.Tensor:
        """Its second half."""
        return self.mlp.w2(F.silu(self.mlp.w1(x), inplace=True)).add_(x)


class TxtFusionBlock(nn.Module):
    """x += wo(sigmoid(gate) attn(norm x)); x += SwiGLU(norm x). Norms of (1 + scale), no biases."""

    def __init__(self, sizes: Sizes):
        """Makes the weights."""
        super().__init__()
        self.sizes = sizes
        width = sizes.width
        self.prenorm = ScaleNorm(width)
        self.postnorm = ScaleNorm(width)
        self.attn = nn.ModuleDict(_projections(sizes, ("wq", "wk", "wv", "gate", "wo")))
        head = width // sizes.heads
        self.attn["qknorm"] = nn.ModuleDict({"qnorm": ScaleNorm(head), "knorm": ScaleNorm(head)})
        self.mlp = nn.ModuleDict(
            {
                "gate": nn.Linear(width, sizes.hidden, bias=False),
                "up": nn.Linear(width, sizes.hidden, bias=False),
                "down": nn.Linear(sizes.hidden, width, bias=False),
            }
        )

    def keys_values(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values, each [B, S, key heads * head width], of a sequence [B, S, D]."""
        inside = self.prenorm(x)
        return self._normed(self.attn.wk(inside), "knorm"), self.attn.wv(inside)

    def forward(
        self, x: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Rows [B, S, D] that attend to keys and values; mask [B, 1, 1, keys], True = read."""
        return self.feed(self.attend(x, k, v, mask))

    def attend(
        self, x: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The block's first half, behind which keys and values may go."""
        inside = self.prenorm(x)
        read = _attend(self._normed(self.attn.wq(inside), "qnorm"), k, v, self.sizes, mask)
        return x + self.attn.wo(read * torch.sigmoid(self.attn.gate(inside)))

    def feed(self, x: torch.Tensor) -> torch.Tensor:
        """Its second half."""
        inside = self.postnorm(x)
        hidden = F.silu(self.mlp.gate(inside), inplace=True).mul_(self.mlp.up(inside))
        return self.mlp.down(hidden).add_(x)

    def _normed(self, x: torch.Tensor, norm: str) -> torch.Tensor:
        """Each head [.., head width] normed by itself."""
        head = self.sizes.width // self.sizes.heads
        return self.attn.qknorm[norm](x.unflatten(-1, (-1, head))).flatten(-2)


class ScaleNorm(nn.Module):
    """RMSNorm whose weight is kept as its distance from 1."""

    def __init__(self, width: int):
        """Makes the weight."""
        super().__init__()
        self.scale = nn.Parameter(torch.empty(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Norms the last axis."""
        return F.rms_norm(x, self.scale.shape, 1 + self.scale, EPS[TXTFUSION])


class LAP(nn.Module):
    """Layerwise Attention Pooling with its refiner, in float32.

    Attributes:
        sizes: Its sizes.
        origin: Where its weights come from.
        layerwise_blocks: Two blocks that attend over layers.
        projector: Weight [1, L]: pools the layers.
        refiner_blocks: Two blocks that attend over tokens.
    """

    # As connectors: one vector per token, as wide as it reads, and no pooled vector.
    layers_read = None
    pooled = 0

    def __init__(self, sizes: Sizes, origin: Origin | None = None):
        """Makes the weights; `read_lap` puts a file's in their place."""
        super().__init__()
        self.sizes = sizes
        self.origin = origin or Origin()
        self.in_width = self.width = sizes.width
        block = {UNIFUSION: UniFusionBlock, TXTFUSION: TxtFusionBlock}[sizes.layout]
        self.layerwise_blocks = nn.ModuleList(block(sizes) for _ in range(BLOCKS))
        self.projector = nn.Linear(sizes.layers, 1, bias=False)
        self.refiner_blocks = nn.ModuleList(block(sizes) for _ in range(BLOCKS))

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"LAP ({self.sizes.layout}, {self.sizes.layers} layers)"

    def forward(
        self,
        layers: Layers,
        tokens: int,
        strengths: torch.Tensor | None = None,
        refiner: bool = True,
        real: torch.Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        """Pools layers, some tokens at a time.

        Args:
            layers: The layers of a range of tokens, on the device of the weights.
            tokens: N.
            strengths: [L], multiplies the pooling weights; None = 1.
            refiner: Whether the refiner runs.
            real: Bool [B, N], False where a token is padding, which the refiner does not read;
                None = none is.
            dtype: Of the result; it is computed in float32.

        Returns:
            [B, N, D].
        """
        weights = self.projector.weight[0]
        rows = rows_at_once(weights.device, self._row_bytes(tokens))
        if strengths is not None:
            weights = weights * strengths
        pooled = pool_chunks(
            layers, tokens, self._over_layers, weights, torch.float32 if refiner else dtype, rows
        )
        if refiner:
            mask = None if real is None or bool(real.all()) else real[:, None, None]
            for block in self.refiner_blocks:
                pooled = _over_tokens(block, pooled, mask, rows)
        return pooled.to(dtype)

    def _over_layers(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens' layers [B * n, L, D], each layer having read the others."""
        for block in self.layerwise_blocks:
            x = block.attend(x, *block.keys_values(x))
            x = block.feed(x)
        return x

    def run_bytes(self, tokens: int) -> int:
        """Estimate of a run's memory beside the weights, in bytes: rows, keys and values.

        Of a run on a graphics card, where rows are many.
        """
        sizes, row = self.sizes, self._row_bytes(tokens)
        rows = min(max(ROWS, PIECE_BYTES // row), tokens * sizes.layers)
        return 4 * 4 * tokens * sizes.width + max(rows, sizes.layers) * row

    def _row_bytes(self, tokens: int) -> int:
        """What a row takes inside a block, its attention to all tokens included, in bytes."""
        sizes = self.sizes
        read = sizes.heads * max(tokens, sizes.layers)
        return 4 * (6 * sizes.width + 2 * sizes.hidden + read)


def rows_at_once(device: torch.device, row_bytes: int) -> int:
    """How many rows go through at a time on a device."""
    return ROWS if device.type == "cpu" else max(ROWS, PIECE_BYTES // row_bytes)


def pool_chunks(
    layers: Layers,
    tokens: int,
    change: Callable[[torch.Tensor], torch.Tensor],
    weights: torch.Tensor,
    dtype: torch.dtype,
    rows: int,
) -> torch.Tensor:
    """The weighted sum of the layers, some tokens at a time: all layers are never in one tensor.

    Args:
        layers: The layers of a range of tokens.
        tokens: N.
        change: What happens to tokens' layers [B * n, L, D] before, in float32.
        weights: [L].
        dtype: Of the result.
        rows: Layers of tokens at a time, of `rows_at_once`.

    Returns:
        [B, N, D].
    """
    step = max(1, rows // len(weights))
    pooled = None
    for start in range(0, tokens, step):
        stop = min(start + step, tokens)
        # Contiguous, as matrix products are many times slower otherwise.
        x = rearrange(layers(start, stop), "b l n d -> b n l d").contiguous().float()
        batch, count, _, width = x.shape
        if pooled is None:
            pooled = torch.empty(batch, tokens, width, dtype=dtype, device=x.device)
        x = change(x.flatten(0, 1))
        pooled[:, start:stop] = (weights @ x).view(batch, count, width)
    return pooled


def _over_tokens(
    block: nn.Module, x: torch.Tensor, mask: torch.Tensor | None, rows: int
) -> torch.Tensor:
    """Runs a block over the tokens of x [B, N, D], so many rows at a time.

    Keys and values are those of all tokens. The rest goes in pieces: only they, and x itself, are
    held for the whole sequence. Without a gradient the result takes the place of x.
    """
    pieces = [slice(start, start + rows) for start in range(0, x.shape[1], rows)]
    if torch.is_grad_enabled():  # what a piece was is needed once more
        both = [block.keys_values(x[:, piece]) for piece in pieces]
        k, v = (torch.cat(each, dim=1) for each in zip(*both, strict=True))
        return torch.cat([block(x[:, piece], k, v, mask) for piece in pieces], dim=1)
    width = block.attn.wk.out_features
    k, v = (x.new_empty(*x.shape[:2], width) for _ in range(2))
    for piece in pieces:
        k[:, piece], v[:, piece] = block.keys_values(x[:, piece])
    for piece in pieces:
        x[:, piece] = block(x[:, piece], k, v, mask)
    return x


def _projections(sizes: Sizes, names: tuple[str, ...]) -> dict[str, nn.Linear]:
    """The attention's linear layers."""
    keys = sizes.width // sizes.heads * sizes.key_heads
    outs = {name: keys if name in ("wk", "wv") else sizes.width for name in names}
    return {name: nn.Linear(sizes.width, out, bias=False) for name, out in outs.items()}


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sizes: Sizes, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attention of rows q [B, S, D] to keys and values [B, keys, ..]; [B, S, D]."""
    head = sizes.width // sizes.heads
    q, k, v = (rearrange(each, "b s (h d) -> b h s d", d=head) for each in (q, k, v))
    if sizes.heads != sizes.key_heads:
        k, v = (each.repeat_interleave(sizes.heads // sizes.key_heads, dim=1) for each in (k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return rearrange(out, "b h s d -> b s (h d)")
