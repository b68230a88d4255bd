"""Rotary embeddings: how they are called, and what they say of a position."""

import pytest
import torch

from vlm.families.layer_cache import LayerCache
from vlm.running.decoder_layer import Places, call_layer

DECODER = "vlm/families/decoder.py"
GEMMA = "vlm/families/gemma3.py"
TOKENS = 9
three_axes = pytest.mark.only(lambda family: family.decoder.mrope)
windowed = pytest.mark.only(lambda family: family.model_type in ("gemma3", "gemma3_text"))


def rotary(one, positions):
    """Every (cos, sin) that the family's layers are given, for positions int64 [3, N]."""
    known = one.family.decoder.rotary(one.text, one.hidden(positions.shape[1]), positions)
    if isinstance(known, tuple):
        return [known]
    return [pair for kind in known.values() for pair in kind.values()]


def counted(start, end):
    return torch.arange(start, end).expand(3, -1)


def keys(one, positions):
    """Keys [1, heads, N, width] of the first layer that attends, turned to their positions."""
    index, layer = next(
        each for each in enumerate(one.text.layers) if hasattr(each[1], "self_attn")
    )
    hidden, decoder, cache = one.hidden(positions.shape[1]), one.family.decoder, LayerCache()
    turns = decoder.rotary(one.text, hidden, positions)
    mask = decoder.mask(one.text, None, hidden, 0)
    arguments = decoder.arguments(one.text, index, turns, mask)
    call_layer(layer, hidden, cache, Places(0, decoder.axes(positions)), arguments)
    return cache.whole[0]


@pytest.mark.relies(DECODER, GEMMA)
def test_it_is_a_module_without_parameters_that_can_be_moved(one):
    for name in ("rotary_emb", "rotary_emb_local"):
        embedding = getattr(one.text, name, None)
        if name == "rotary_emb" or embedding is not None:
            assert not list(embedding.parameters()) and list(embedding.buffers())
            assert embedding.to(torch.device("cpu")) is embedding


@pytest.mark.relies(DECODER, GEMMA)
def test_it_gives_cosines_and_sines_of_each_position(one):
    """[1, N, W], or [3, 1, N, W] where the layers put the three axes together."""
    for cos, sin in rotary(one, counted(0, TOKENS)):
        assert cos.shape == sin.shape and cos.dtype == sin.dtype == torch.float32
        assert cos.shape[:-1] in ((1, TOKENS), (3, 1, TOKENS))
        first = cos[..., 0, :]
        assert first.min() == first.max() > 0 and sin[..., 0, :].abs().max() == 0


@pytest.mark.relies(DECODER, "vlm/running/run.py", "vlm/running/rewrite.py")
def test_a_position_is_the_same_whatever_stands_before_it(one):
    """The rest of a prompt behind a prefix, and one written token after the other."""
    whole = rotary(one, counted(0, TOKENS))
    for start, end in ((5, TOKENS), (7, 8)):
        part = rotary(one, counted(start, end))
        for (cos, sin), (cos_all, sin_all) in zip(part, whole, strict=True):
            torch.testing.assert_close(cos, cos_all[..., start:end, :])
            torch.testing.assert_close(sin, sin_all[..., start:end, :])


@three_axes
@pytest.mark.relies(DECODER, "vlm/prompts/positions.py")
def test_each_of_three_axes_turns_its_share_of_the_keys(one):
    """As many channels as config.json gives it, and no channel belongs to two."""
    plain = keys(one, counted(0, TOKENS))
    config, turned = one.text.config, []
    settings = getattr(config, "rope_parameters", None) or config.rope_scaling
    for axis in range(3):
        moved = counted(0, TOKENS).clone()
        moved[axis] += 3
        turned.append((keys(one, moved) != plain).any(dim=(0, 1, 2)))
    shares = [int(channels.sum()) for channels in turned]
    assert shares == [2 * share for share in settings["mrope_section"]]
    assert torch.stack(turned).sum(0).max() == 1


@windowed
@pytest.mark.relies(GEMMA)
def test_windowed_layers_have_an_embedding_of_their_own(one):
    known = one.family.decoder.rotary(one.text, one.hidden(TOKENS), counted(0, TOKENS))
    assert set(known) == set(one.text.config.layer_types)
    pairs = [pair for kind in known.values() for pair in kind.values()]
    assert any(not torch.equal(pairs[0][0], cos) for cos, _ in pairs)


@windowed
@pytest.mark.relies(GEMMA)
def test_its_config_says_which_layers_have_a_window_and_how_wide(one):
    config = one.text.config
    assert set(config.layer_types) == {"full_attention", "sliding_attention"}
    assert len(config.layer_types) == len(one.text.layers)
    assert config.sliding_window == 256 and not config.use_bidirectional_attention
