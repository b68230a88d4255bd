"""The token filter: what stays, that it keeps its map, and what it says when nothing does."""

import numpy as np
import pytest
import torch

from vlm.token_map import ROLES, new_map
from vlm.tokens.filter import KEEP_PRESETS, filter_tokens, keep_roles
from vlm.tokens.tokens import Tokens

ORDER = [
    "system",
    "template",
    "vision_marker",
    "image",
    "image",
    "vision_marker",
    "vision_marker",
    "image",
    "vision_marker",
    "text",
    "text",
    "template",
    "thinking",
    "generated",
    "pad",
    "unknown",
]
IMAGE = [-1, -1, 0, 0, 0, 0, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1]


def every_role(batch: int = 2, dtype: torch.dtype = torch.float32) -> Tokens:
    """Token i of row b is i + 100 b in every dimension."""
    n = len(ORDER)
    grids = [{"image": i, "frames": 1, "rows": 1, "cols": n} for i in (0, 1)]
    rows = torch.arange(n)[None, :, None] + 100 * torch.arange(batch)[:, None, None]
    states = rows.expand(batch, n, 3).to(dtype).clone()
    return Tokens(states, new_map(ORDER, IMAGE, cols=range(n), grids=grids))


def kept(t: Tokens) -> list[int]:
    return [int(v) for v in t.states[0, :, 0]]


@pytest.mark.parametrize(
    ("keep", "indices"),
    [
        ("all", list(range(16))),
        ("text", [0, 1, 9, 10, 11, 12, 13, 14, 15]),
        ("prompt", [9, 10]),
        ("image", [3, 4, 7]),
        ("image+markers", [2, 3, 4, 5, 6, 7, 8]),
        ("generated", [3, 4, 7, 13]),
        (("text",), [9, 10]),
        (["thinking", "system"], [0, 12]),
    ],
)
def test_keep(keep, indices):
    t = every_role()
    out = filter_tokens(t, keep=keep)
    assert torch.equal(out.states, t.states[:, indices])
    assert out.token_map["role"] == [ORDER[i] for i in indices]
    assert out.token_map["image"] == [IMAGE[i] for i in indices]
    assert out.token_map["col"] == indices


def test_every_preset_is_tested_and_text_is_the_default():
    pictures = {"image", "image+markers"}
    assert set(KEEP_PRESETS) == {"all", "text", "prompt", "generated", "audio", *pictures}
    assert kept(filter_tokens(every_role())) == [0, 1, 9, 10, 11, 12, 13, 14, 15]
    assert keep_roles("all") == ROLES


def test_images_restrict_image_tokens_and_their_markers_only():
    t = every_role()
    assert kept(filter_tokens(t, "image", images=[1])) == [7]
    assert kept(filter_tokens(t, "image+markers", images=0)) == [2, 3, 4, 5]
    assert kept(filter_tokens(t, ("image", "text"), images=(1,))) == [7, 9, 10]
    assert kept(filter_tokens(t, "all", images=[1])) == [0, 1, *range(6, 16)]
    assert kept(filter_tokens(t, "prompt", images=[5])) == [9, 10]
    assert kept(filter_tokens(t, "image", images=np.int64(1))) == [7]
    assert kept(filter_tokens(t, "prompt", turns=np.int64(0))) == [9, 10]
    only_first = filter_tokens(t, "image", images={0}).token_map
    assert [grid["image"] for grid in only_first["grids"]] == [0]


def test_drop_first_counts_kept_tokens():
    t = every_role()
    assert kept(filter_tokens(t, "image+markers", drop_first=2)) == [4, 5, 6, 7, 8]
    assert kept(filter_tokens(t, "all", drop_first=15)) == [15]
    without = Tokens(t.states)
    assert kept(filter_tokens(without, "all", drop_first=14)) == [14, 15]
    assert filter_tokens(without, "all", drop_first=14).token_map is None


def test_all_is_the_identity_with_and_without_a_map():
    t = every_role()
    assert filter_tokens(t, keep="all") is t
    assert filter_tokens(t, keep="all", images=[0, 1]) is t
    without = Tokens(t.states)
    assert filter_tokens(without, keep="all") is without


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_and_input_stay(dtype):
    t = every_role(batch=3, dtype=dtype)
    before = t.states.clone()
    out = filter_tokens(t, "image")
    assert out.states.dtype == dtype and out.states.shape == (3, 3, 3)
    assert out.states.untyped_storage().nbytes() == out.states.nbytes  # no view of all tokens
    out.states.zero_()
    assert torch.equal(t.states, before)


def test_without_a_map_the_error_names_causes_and_fixes():
    bare = Tokens(torch.zeros(1, 5, 4))
    for arguments in ({"keep": "text"}, {"keep": "all", "images": [0]}, {"keep": ("image",)}):
        with pytest.raises(ValueError) as error:
            filter_tokens(bare, **arguments)
        said = str(error.value)
        assert "no token map" in said and "`encode`" in said
        assert "`blend`" in said and "Conditioning (Concat)" in said


def test_an_empty_result_says_which_roles_there_were():
    t = Tokens(torch.zeros(1, 3, 4), new_map(["template", "text", "text"]))
    with pytest.raises(ValueError, match="'image'.*none of the 3 tokens.*template 1, text 2"):
        filter_tokens(t, "image")
    with pytest.raises(ValueError, match="drop_first 2.*template 1, text 2.*smaller drop_first"):
        filter_tokens(t, "prompt", drop_first=2)
    with pytest.raises(ValueError, match="drop_first 3.*3 of unknown role"):
        filter_tokens(Tokens(t.states), "all", drop_first=3)


def test_unknown_names_are_answered_with_the_known_ones():
    t = every_role()
    with pytest.raises(ValueError, match=r"`keep` 'words'.*all, text, prompt.*image\+markers"):
        filter_tokens(t, "words")
    with pytest.raises(ValueError, match="role 'words'.*" + ", ".join(ROLES)):
        filter_tokens(t, ("text", "words"))
    with pytest.raises(ValueError, match="names no role"):
        filter_tokens(t, ())
    with pytest.raises(ValueError, match="Image 2 does not exist.*images 0, 1"):
        filter_tokens(t, "image", images=[0, 2])
    with pytest.raises(ValueError, match="Image 0 does not exist.*no images"):
        filter_tokens(Tokens(torch.zeros(1, 1, 4), new_map(["text"])), "all", images=0)
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError if wrong == -1 else TypeError, match="drop_first"):
            filter_tokens(t, "text", drop_first=wrong)
