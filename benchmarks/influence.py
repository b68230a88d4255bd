"""What of a picture reaches the diffusion model: tokens that count, dots that work, dimensions.

Pictures are random fields over a grid of 24 x 24 tokens, neighbours alike as in a picture. Texts
follow Qwen3-4B's penultimate layer as measured and published: ordinary dimensions with a median std
of 5.6, and a first token whose dimensions 4, 396 and 0 are thousands of times as large.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import table
import torch

SIDE, WIDTH, ALPHA = 24, 256, 0.3
LENGTHS = (5, 7, 17, 24, 77, 128, 300, 512)
RADII = (0.2, 0.5)
STEPS = (0.1, 0.3, 0.5, 0.7, 0.9)
INSIDE = [(x, y) for x in STEPS for y in STEPS]
BORDERS = [place for at in STEPS for side in (0.0, 1.0) for place in ((at, side), (side, at))]
CORNERS = [(x, y) for x in (0.0, 1.0) for y in (0.0, 1.0)]  # a quarter of a dot lies in the picture
# Where a dot lies, and what its effect is at least.
PLACES = {"25 places": (INSIDE, 0.5), "the borders": (BORDERS, 0.2), "the corners": (CORNERS, None)}

ENCODER_WIDTH, MASSIVE, SINK = 2560, (4, 396, 0), (15000.0, -5200.0, 1060.0)
REFERENCE_TOKENS = (12, 24, 80, 300)
LARGEST_ERROR = 0.1


def picture(seed: int = 0) -> Any:
    """Tokens of a picture with their map."""
    from vlm import Tokens
    from vlm.token_map import new_map

    noise = torch.randn(1, WIDTH, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2)
    field = smooth / smooth.std() + 0.5 * noise
    n, places = SIDE * SIDE, range(SIDE * SIDE)
    token_map = new_map(
        ["image"] * n,
        [0] * n,
        rows=[at // SIDE for at in places],
        cols=[at % SIDE for at in places],
        grids=[{"image": 0, "frames": 1, "rows": SIDE, "cols": SIDE}],
    )
    return Tokens(field.flatten(2).transpose(1, 2).contiguous(), token_map)


def words(n: int) -> Any:
    """A text of that length; its values do not matter here."""
    from vlm import Tokens

    return Tokens(torch.randn(1, n, WIDTH, generator=torch.Generator().manual_seed(n)))


def share_that_counts(method: str, n: int) -> float:
    """Share of the picture's tokens that change the blend when they change."""
    from vlm import Tokens, blend

    whole = picture()
    states = whole.states.clone().requires_grad_()
    mixed = blend(Tokens(states, whole.token_map), words(n), ALPHA, method).states
    seen = torch.randn(mixed.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((mixed * seen).sum(), states)
    return (gradient.norm(dim=2) > 0).float().mean().item()


def tokens_that_count() -> list[table.Row]:
    """The least share over all lengths for pool and auto; interpolate beside it."""
    rows = []
    for method in ("pool", "auto", "interpolate"):
        shares = [share_that_counts(method, n) for n in LENGTHS]
        name = f"{method}: tokens with influence, least of texts of {LENGTHS[0]} to {LENGTHS[-1]}"
        limit = None if method == "interpolate" else 1.0
        rows.append(table.Row(name, min(shares), limit, "of the picture's tokens", True))
    at_17 = share_that_counts("interpolate", 17)
    name = "interpolate: tokens with influence, text of 17"
    rows.append(table.Row(name, at_17, None, "of the picture's tokens"))
    return rows


def dot_effect(n: int, radius: float, method: str) -> Callable[[float, float], float]:
    """How much a negative dot at x, y changes the blend with a text of n tokens."""
    import vlm

    whole, text = picture(), words(n)
    plain = vlm.blend(whole, text, ALPHA, method).states

    def effect(x: float, y: float) -> float:
        mask = vlm.radial_mask(SIDE, SIDE, [vlm.Dot(x, y, radius, -1.0)], floor=1.0)
        dotted = vlm.blend(vlm.apply_mask(whole, mask), text, ALPHA, method).states
        return (dotted - plain).norm().item()

    return effect


def dots() -> list[table.Row]:
    """Effect of a negative dot against one in the middle: the least of places and lengths."""
    rows = []
    for radius in RADII:
        for method in ("auto", "interpolate"):
            weakest = dict.fromkeys(PLACES, float("inf"))
            for n in LENGTHS:
                effect = dot_effect(n, radius, method)
                centre = effect(0.5, 0.5) or 1.0  # interpolate may see nothing there
                for where, (places, _) in PLACES.items():
                    here = min(effect(*place) for place in places) / centre
                    weakest[where] = min(weakest[where], here)
            for where, (_, least) in PLACES.items():
                limit = None if method == "interpolate" else least
                name = f"{method}: dot of radius {radius}, weakest of {where}"
                rows.append(table.Row(name, weakest[where], limit, "of the middle's", True))
    return rows


def spread() -> torch.Tensor:
    """Std per dimension of ordinary tokens."""
    noise = torch.randn(ENCODER_WIDTH, generator=torch.Generator().manual_seed(2))
    return 5.6 * torch.exp(0.3 * noise)


def encoder_text(n: int, seed: int) -> Any:
    """A prompt of the target's own encoder."""
    from vlm import Tokens

    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, n, ENCODER_WIDTH, generator=generator) * spread()
    x[0, 0, list(MASSIVE)] = torch.tensor(SINK)
    return Tokens(x)


def behind_the_norm(states: torch.Tensor) -> float:
    """Size of ordinary dimensions behind an RMSNorm, over tokens that are no sinks."""
    from vlm.tokens.spread import sink_tokens

    x = states[0][~sink_tokens(states)[0]]
    x = x * x.square().mean(dim=1, keepdim=True).rsqrt()
    ordinary = torch.ones(ENCODER_WIDTH, dtype=torch.bool)
    ordinary[list(MASSIVE)] = False
    return x[:, ordinary].square().mean().sqrt().item()


def dimensions() -> list[table.Row]:
    """Ordinary dimensions of image tokens behind Z-Image's first norm, against those of text."""
    import vlm

    generator = torch.Generator().manual_seed(5)
    image = vlm.Tokens(torch.randn(1, 576, ENCODER_WIDTH, generator=generator) * 3 + 0.5)
    normal = behind_the_norm(encoder_text(2000, 99).states)
    rows = []
    for sinks in (False, True):
        for n in REFERENCE_TOKENS:
            stats = vlm.measure_stats(encoder_text(n, n))
            made = vlm.normalize(image, stats, "per_dim", sinks=sinks)
            size = behind_the_norm(made.states) / normal
            how = "published" if sinks else "without sinks"
            name = f"{how}: ordinary dimensions, {n} reference tokens"
            rows.append(table.Row(name, size, None, "of those of text"))
            if not sinks:
                off = abs(size - 1)
                rows.append(table.Row(f"{how}: off by, {n} tokens", off, LARGEST_ERROR, ""))
    return rows


def runs_of_a_sweep() -> list[table.Row]:
    """How often the VLM runs for twelve values: the most passes through any of its layers."""
    import vlm
    from vlm.conditioning.entries import Entry
    from vlm.conditioning.sweep import sweep
    from vlm.conditioning.sweep_values import Steps, combine, parse_axis

    model = vlm.load("tiny")
    ran = [0] * len(model.backbone.text.layers)

    def count(at: int) -> Callable[..., None]:
        def note(*_: Any) -> None:
            ran[at] += 1

        return note

    for at, layer in enumerate(model.backbone.text.layers):
        layer.register_forward_hook(count(at))
    states = model.encode("a house", [torch.rand(1, 96, 128, 3)], target="z-image")
    own = [Entry(vlm.Tokens(torch.randn(1, 12, model.backbone.width)), {})]
    axes = [parse_axis("alpha", "0, 0.15, 0.3, 0.5"), parse_axis("layer", "-8, -2, -6")]
    made = sweep(states, own, combine(Steps(), axes))
    row = f"sweep of {len(made)} values: runs of the VLM"
    return [table.Row(row, max(ran), 1, "runs of the busiest layer")]


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    options = table.parser(__doc__).parse_args(arguments)
    rows = []
    for work in (tokens_that_count, dots, dimensions, runs_of_a_sweep):
        table.say(work.__name__.replace("_", " "))
        rows += work()
    return table.finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
