"""Token Pool and pooling blends in a real ComfyUI: before a gate, after it, and what is refused."""

from __future__ import annotations

import pytest
import torch
from graphs import node
from pack_graphs import blended, conditioning, dump, picture, seen
from refusals import change, failed, refused

from vlm.tokens.blend import blend
from vlm.tokens.pool import pool_tokens
from vlm.tokens.shape_text import write_dots
from vlm.tokens.shapes import Dot
from vlm.tokens.tokens import Tokens

MAP = "vlm_tokens"
PICTURE = picture(0x994422, 128, 96)


def tokens_of(entry) -> Tokens:
    return Tokens(entry.tensor, entry.options[MAP])


def pooled(before: bool, **inputs) -> dict:
    """`seen` with Token Pool before the gate or after it."""
    prompt = seen("a pooled house", PICTURE)
    prompt["pool"] = node("VLMCTokenPool", tokens=["encode" if before else "layer", 0], **inputs)
    if before:
        return change(prompt, "layer", hidden_states=["pool", 0])
    return prompt | {"dump": dump("pool")}


@pytest.mark.parametrize("before", [True, False], ids=["before the gate", "after the gate"])
def test_a_pictures_tokens_are_averaged(comfy, before):
    (plain,) = comfy.run(seen("a pooled house", PICTURE)).dump("dump")
    result = comfy.run(pooled(before, size=4))
    (entry,) = result.dump("dump")
    want = pool_tokens(tokens_of(plain), tokens=4)
    assert torch.allclose(entry.tensor, want.states, atol=1e-5)
    assert entry.options[MAP] == want.token_map
    had = plain.options[MAP]["role"].count("image")
    (old,), (new,) = plain.options[MAP]["grids"], want.token_map["grids"]
    assert result.text("pool") == (
        f"{had} picture tokens to 4, norms restored: image 0 {old['rows']} x {old['cols']} to "
        f"{new['rows']} x {new['cols']}"
    )


def test_a_grid_of_ones_own_and_no_more_than_there_is(comfy):
    (entry,) = comfy.run(pooled(False, size=64, rows=1, cols=3)).dump("dump")
    assert entry.options[MAP]["grids"] == [{"image": 0, "frames": 1, "rows": 1, "cols": 3}]
    (plain,) = comfy.run(seen("a pooled house", PICTURE)).dump("dump")
    same = comfy.run(pooled(False, size=16384))
    assert torch.equal(same.dump("dump")[0].tensor, plain.tensor)
    assert same.text("pool").endswith("no more than asked for: unchanged")


def longer(method: str, dots: list[Dot] = ()) -> dict:
    """A picture's tokens, weighed by dots, in a text that is shorter than they are."""
    prompt = blended("a pooled house", keep="image", pictures=(PICTURE,), strength=0.0)
    prompt["words"] = conditioning(tokens=5)
    prompt["grid"] = node("VLMCGridDotMask", tokens=["layer", 0], dots=write_dots(dots), floor=1.0)
    prompt["filter"]["inputs"]["tokens"] = ["grid", 0]
    return change(prompt, "blend", method=method)


def test_auto_pools_a_longer_picture_and_says_so(comfy):
    result = comfy.run(longer("auto") | {"kept": dump("filter"), "text": dump("words")})
    (got,), (vl,), (text,) = (result.dump(name) for name in ("dump", "kept", "text"))
    want = blend(tokens_of(vl), Tokens(text.tensor), 0.3, "pool")
    assert torch.allclose(got.tensor, want.states, atol=1e-5)
    assert result.text("blend").startswith(f"auto (pool), alpha 0.3: {vl.tensor.shape[1]} picture")
    assert comfy.run(longer("pool")).text("blend").startswith("pool, alpha 0.3")
    short = change(longer("auto"), "words", tokens=vl.tensor.shape[1])
    assert comfy.run(short).text("blend").startswith("auto (interpolate), alpha 0.3")


@pytest.mark.parametrize("x", [0.1, 0.5, 0.9])
def test_a_dot_at_the_side_changes_the_blend(comfy, x):
    (plain,) = comfy.run(longer("auto")).dump("dump")
    (dotted,) = comfy.run(longer("auto", [Dot(x, 0.5, 0.5, -1.0)])).dump("dump")
    assert (dotted.tensor - plain.tensor).norm() > 1e-2 * plain.tensor.norm()


def test_what_is_refused(comfy):
    error = refused(comfy, pooled(False, size=4, rows=2, cols=0))
    assert "rows is 2 and cols is 0 on Token Pool" in " ".join(error.details("pool"))
    error = refused(comfy, pooled(False, size=0))
    assert error.node_errors["pool"]["errors"][0]["type"] == "value_smaller_than_min"
    text = failed(comfy, pooled(True, size=4, rows=100, cols=100), "pool")
    assert "Token Pool makes grids smaller: image 0 has" in text and "100 x 100" in text
    words = {
        "words": conditioning(),
        "pool": node("VLMCTokenPool", tokens=["words", 0], size=4),
        "dump": dump("pool"),
    }
    assert "carries no token map" in failed(comfy, words, "pool")
    alone = seen("no picture", None) | {
        "pool": node("VLMCTokenPool", tokens=["encode", 0], size=4),
    }
    text = failed(comfy, change(alone, "layer", hidden_states=["pool", 0]), "pool")
    assert "found no image tokens" in text
