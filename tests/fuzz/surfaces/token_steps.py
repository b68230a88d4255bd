"""What is done to tokens: layers, filter, pool, normalise, outliers, style, masks, blend, ramps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import vlm
from vlm.tokens.blend import METHODS
from vlm.tokens.filter import KEEP_PRESETS
from vlm.tokens.normalize import MODES
from vlm.tokens.outliers import OUTLIER_MODES

from ..case import Case, Make, line_of
from ..draw import Draw
from .models import picture, sent, some_stats, some_tokens, tiny_model


def prepare(base: Path) -> Make:
    """Hidden states of a prompt with a picture."""
    h = tiny_model(base).encode("a red house", [picture()])
    h.layer(-1)

    def make(draw: Draw, room: Path) -> Case:
        t = some_tokens(draw)
        other = some_tokens(draw, t.width if draw.chance(0.85) else 0)
        stats = (
            some_stats(draw, t.width) if draw.chance(0.85) else draw.one(None, some_stats(draw, 3))
        )
        steps = _steps(draw, h, t, other, stats)
        name = draw.choice(list(steps))
        settings = steps[name][1]()
        chosen = {
            key: settings[key]
            for key in draw.sample(list(settings), min(len(settings), draw.randint(0, 4)))
        }
        return Case(line_of(name, t, other, chosen), lambda: _sent(steps[name][0](**chosen)))

    return make


def _sent(made: Any) -> Any:
    """Tokens and entries as they leave; other results as they are."""
    if isinstance(made, vlm.Tokens):
        return sent(made)
    entries = isinstance(made, list) and made and all(isinstance(one, vlm.Entry) for one in made)
    return sent(*made) if entries else made


def _steps(
    draw: Draw, h: Any, t: vlm.Tokens, other: vlm.Tokens, stats: Any
) -> dict[str, tuple[Callable[..., Any], Callable[[], dict[str, Any]]]]:
    share = lambda: draw.one(0.0, 0.3, 1.0, draw.number())  # noqa: E731
    flag = lambda: draw.chance(0.5)  # noqa: E731
    entries = [vlm.Entry(t, {}), vlm.Entry(other, {"start_percent": 0.5, "end_percent": 1.0})]
    return {
        "select": (lambda **s: vlm.select_layers(h, **s), lambda: {
            "layers": draw.one("auto", "0,1", [0, 1, 2], draw.whole(), draw.text()),
            "combine": draw.one(None, "concat", "mean", "weighted", draw.text()),
            "gains": [draw.number() for _ in range(draw.randint(1, 3))],
            "final_norm": draw.one(None, True, False), "hold_norm": flag(),
        }),
        "filter": (lambda **s: vlm.filter_tokens(t, **s), lambda: {
            "keep": draw.one(*KEEP_PRESETS, ["text"], draw.text()),
            "images": draw.one(0, [0], [], draw.whole()), "drop_first": draw.whole(),
            "turns": draw.one(0, [0, 1], draw.whole()),
        }),
        "pool": (lambda **s: vlm.pool_tokens(t, **s), lambda: {
            "tokens": draw.whole(), "rows": draw.whole(), "cols": draw.whole(),
        }),
        "normalize": (lambda **s: vlm.normalize(t, stats, **s), lambda: {
            "mode": draw.one(*MODES), "clip_sigma": draw.one(None, 3.0, draw.number()),
            "weight": share(), "target_std": draw.number(), "strength": share(), "sinks": flag(),
        }),
        "outliers": (lambda **s: vlm.mask_outliers(t, stats, **s), lambda: {
            "mode": draw.one(*OUTLIER_MODES), "threshold": draw.number(), "sinks": flag(),
        }),
        "style": (lambda **s: vlm.add_style(t, other, **s), lambda: {
            "alpha": draw.number(), "match_std": flag(), "sinks": flag(),
        }),
        "delta": (lambda **s: vlm.style_delta(t, other, **s), lambda: {"unit_std": flag()}),
        "blend": (lambda **s: vlm.blend(t, other, **s), lambda: {
            "alpha": draw.one(share(), [share() for _ in range(draw.randint(0, 9))]),
            "method": draw.one(*METHODS), "cut": flag(), "schedule_start": share(),
            "schedule": draw.one("constant", "linear", "cosine", draw.text()),
        }),
        "mask": (lambda **s: vlm.apply_mask(t, **{"mask": draw.tensor(2, 2), **s}), lambda: {
            "mask": draw.one(draw.odd_tensor(), draw.tensor(3, 5)), "image": draw.whole(),
        }),
        "resample": (
            lambda **s: vlm.resample_mask(**{"mask": draw.tensor(3, 3), "rows": 2, "cols": 2, **s}),
            lambda: {"mask": draw.odd_tensor(), "rows": draw.whole(), "cols": draw.whole()},
        ),
        "dots": (lambda **s: vlm.radial_mask(**{"rows": 4, "cols": 4, "dots": [], **s}), lambda: {
            "rows": draw.whole(), "cols": draw.whole(), "floor": draw.number(),
            "dots": [vlm.Dot(0.5, 0.5, draw.uniform(0.001, 2), draw.uniform(-1, 1))],
            "combine": draw.one("max", "add", "multiply", draw.text()), "mask": draw.odd_tensor(),
        }),
        "statistics": (lambda **s: vlm.measure_stats([t, other], **s).mean, lambda: {
            "model": draw.text(), "layer": draw.whole(), "prompts": [draw.text()],
        }),
        "hand over": (lambda **s: vlm.hand_over(entries[:1], entries[1:], **{"percent": 0.5, **s}),
            lambda: {"percent": draw.number()}),
        "ramp": (
            lambda **s: vlm.blend_over_time(
                [(entries[0], entries[0])],
                vlm.alpha_ramp(**{"first": 0.8, "last": 0.2, **s}),
                lambda a, b, alpha: vlm.blend(a, b, alpha),
            ),
            lambda: {
                "first": share(), "last": share(), "ranges": draw.whole(), "start": draw.number(),
                "end": draw.number(), "curve": draw.one("linear", "cosine", draw.text()),
            },
        ),
        "check": (lambda **s: vlm.check(entries, vlm.Needs("x", **s)),
            lambda: {"width": draw.whole(), "pooled": draw.whole(), "most_tokens": draw.whole()}),
    }  # fmt: skip
