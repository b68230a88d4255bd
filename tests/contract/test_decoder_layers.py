"""Decoder layers one at a time: their arguments, masks, keys and values, and what they return."""

import inspect
import warnings

import pytest
import torch

from vlm.families.layer_cache import LayerCache
from vlm.running.decoder_layer import CACHE_NAMES, DISAGREEMENTS, Places, call_layer
from vlm.running.left_pads import blank_pads

CALL = "vlm/running/decoder_layer.py"
CACHE = "vlm/families/layer_cache.py"
DECODER = "vlm/families/decoder.py"
RUN = "vlm/running/run.py"
PADS = "vlm/running/left_pads.py"
TOKENS, PAST = 8, 5
LAYERS_AND_NORM = 7
ROTARY = ("position_embeddings",), ("position_embeddings_global", "position_embeddings_local")


class Recorder(LayerCache):
    """Writes down what an attention wants of its cache beside `update`."""

    def __init__(self, past=None):
        super().__init__(past)
        self.calls, self.asked = [], []

    def update(self, keys, values, *args, **kwargs):
        self.calls.append((keys, values))
        return super().update(keys, values, *args, **kwargs)

    def __getattr__(self, name):
        self.__dict__["asked"].append(name)
        raise AttributeError(name)


def layers_of(one):
    """Each layer with its number and how it is called: `run(hidden, past=0, allowed=None, ...)`."""
    for index, layer in enumerate(one.text.layers):

        def run(hidden, past=0, allowed=None, cache=None, index=index, layer=layer):
            places = torch.arange(past, past + hidden.shape[1]).expand(3, -1)
            decoder = one.family.decoder
            rotary = decoder.rotary(one.text, hidden, places)
            mask = decoder.mask(one.text, allowed, hidden, past)
            arguments = decoder.arguments(one.text, index, rotary, mask)
            return call_layer(layer, hidden, cache, Places(past, decoder.axes(places)), arguments)

        yield index, layer, run


def attending(one):
    """Those of the layers whose attention keeps keys and values."""
    return [each for each in layers_of(one) if hasattr(each[1], "self_attn")]


def causal(queries, keys):
    """True where a query may look, [1, 1, queries, keys]; the last query sees every key."""
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)[None, None]


# --- signature and return


@pytest.mark.relies(CALL)
def test_the_states_come_first(one):
    for _, layer, _ in layers_of(one):
        assert list(inspect.signature(type(layer).forward).parameters)[1] == "hidden_states"


@pytest.mark.relies(CALL)
def test_the_cache_has_one_of_the_known_names(one):
    for _, layer, _ in layers_of(one):
        taken = inspect.signature(type(layer).forward).parameters
        assert set(CACHE_NAMES) & set(taken), list(taken)


@pytest.mark.relies(DECODER, "vlm/families/gemma3.py")
def test_mask_and_rotary_embedding_have_their_names(one):
    for _, layer, _ in layers_of(one):
        taken = inspect.signature(type(layer).forward).parameters
        assert "attention_mask" in taken
        assert any(set(names) <= set(taken) for names in ROTARY), list(taken)


@pytest.mark.relies(CALL)
def test_what_else_a_layer_needs_is_known(one):
    """Nothing without a default but the states, the embedding, and what is said by name."""
    known = {"hidden_states", "attention_mask", "position_ids", "cache_position", "use_cache"}
    known |= {name for names in ROTARY for name in names} | set(CACHE_NAMES)
    for _, layer, _ in layers_of(one):
        _, *taken = inspect.signature(type(layer).forward).parameters.values()
        needed = {p.name for p in taken if p.default is p.empty and p.kind != p.VAR_KEYWORD}
        assert needed <= known


@pytest.mark.relies(CALL, RUN)
def test_a_layer_returns_states_or_a_tuple_that_begins_with_them(one):
    hidden = one.hidden(TOKENS)
    for _, _, run in layers_of(one):
        output = run(hidden.clone())
        assert output.shape == hidden.shape and bool(torch.isfinite(output).all())
        assert not torch.equal(output, hidden)


@pytest.mark.relies(CALL)
def test_nothing_that_is_said_to_a_layer_is_deprecated(one):
    hidden = one.hidden(TOKENS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _, _, run in attending(one):
            run(hidden.clone(), cache=LayerCache())


@pytest.mark.relies(PADS)
def test_attention_ends_in_o_proj(one):
    """What enters it is what attention saw: zeros there leave a token with itself alone."""
    hidden = one.hidden(TOKENS)
    allowed = causal(TOKENS, TOKENS)
    for _, layer, run in attending(one):
        entered = []
        with blank_pads([layer], 3):
            hook = layer.self_attn.o_proj.register_forward_pre_hook(
                lambda module, args, entered=entered: entered.append(args[0].clone())
            )
            run(hidden.clone(), allowed=allowed)
            hook.remove()
        (seen,) = entered
        assert seen.shape[:2] == hidden.shape[:2]
        assert not seen[:, :3].any() and seen[:, 3:].any(-1).all()


@pytest.mark.relies(RUN)
def test_a_layer_does_not_know_the_others(one, err):
    """The same input gives the same states, whatever ran before."""
    hidden = one.hidden(TOKENS)
    first = [run(hidden.clone()) for _, _, run in layers_of(one)]
    again = [run(hidden.clone()) for _, _, run in reversed(list(layers_of(one)))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


# --- keys and values


@pytest.mark.relies(CACHE, "vlm/running/huggingface.py")
def test_an_attention_updates_its_cache_once_and_asks_nothing_else(one):
    for _, layer, run in attending(one):
        cache = Recorder()
        run(one.hidden(TOKENS), cache=cache)
        assert cache.asked == [] and len(cache.calls) == 1
        keys, values = cache.calls[0]
        heads = one.text.config.num_key_value_heads
        width = layer.self_attn.k_proj.out_features // heads
        assert keys.shape == values.shape == (1, heads, TOKENS, width)


@pytest.mark.relies(CACHE, "vlm/running/prefix_cache.py", RUN)
def test_an_attention_reads_what_its_cache_gives_back(one, err):
    """Keys and values of a beginning stand for it: the rest runs alone."""
    hidden = one.hidden(TOKENS)
    for index, _, run in attending(one):
        whole, begin = LayerCache(), LayerCache()
        want = run(hidden.clone(), cache=whole)
        run(hidden[:, :PAST].clone(), cache=begin)
        rest = LayerCache(begin.whole)
        found = run(
            hidden[:, PAST:].clone(), PAST, allowed=causal(TOKENS - PAST, TOKENS), cache=rest
        )
        assert err(found, want[:, PAST:]) <= 1e-5, f"layer {index}"
        assert err(rest.whole[0], whole.whole[0]) <= 1e-5


@pytest.mark.relies(DECODER, "vlm/families/qwen3_5.py", "vlm/running/rewrite.py")
def test_one_token_behind_what_a_layer_remembers(one, err):
    """As when a model writes: the prompt through all layers, then token after token, no mask."""
    hidden, layers = one.hidden(TOKENS), list(layers_of(one))
    want = [run(hidden.clone()) for _, _, run in layers]
    caches = [None]
    for _, _, run in layers:
        caches.append(one.family.decoder.growing_cache(one.text, TOKENS, None, caches[-1]))
        run(hidden[:, :PAST].clone(), cache=caches[-1])
    for place in range(PAST, TOKENS):
        token = slice(place, place + 1)
        for (index, _, run), cache in zip(layers, caches[1:], strict=True):
            found = run(hidden[:, token].clone(), place, cache=cache)
            assert err(found, want[index][:, token]) <= 1e-5, f"layer {index}"


# --- masks


@pytest.mark.relies(DECODER, RUN)
def test_no_mask_is_a_causal_one(one, err):
    hidden = one.hidden(TOKENS)
    for index, _, run in layers_of(one):
        want = run(hidden.clone(), allowed=causal(TOKENS, TOKENS))
        assert err(run(hidden.clone()), want) <= 1e-5, f"layer {index}"


@pytest.mark.relies(DECODER, RUN)
def test_a_token_behind_a_mask_counts_for_nothing(one, err):
    """Pad tokens behind a text."""
    hidden = one.hidden(TOKENS)
    real = TOKENS - 2
    allowed = causal(TOKENS, TOKENS)
    allowed[..., real:] = False
    for index, _, run in layers_of(one):
        want = run(hidden[:, :real].clone())
        assert err(run(hidden.clone(), allowed=allowed)[:, :real], want) <= 1e-5, f"layer {index}"


@pytest.mark.relies(RUN, "vlm/families/qwen3_5.py")
def test_tokens_in_front_that_look_at_nothing_count_for_nothing(one, err):
    """Pad tokens before a text: their own states are finite, those behind them as without them."""
    hidden, left = one.hidden(TOKENS), 3
    allowed = causal(TOKENS, TOKENS)
    allowed[..., :left] = False
    for index, _, run in layers_of(one):
        want = run(hidden[:, left:].clone(), left)
        found = run(hidden.clone(), allowed=allowed)
        assert bool(torch.isfinite(found).all()), f"layer {index}"
        assert err(found[:, left:], want) <= 1e-5, f"layer {index}"


@pytest.mark.only(lambda family: family.decoder.pictures_whole)
@pytest.mark.relies(RUN)
def test_a_mask_may_let_tokens_look_ahead(one):
    """Tokens of one picture look at each other where a family has it so."""
    hidden, ahead = one.hidden(TOKENS), causal(TOKENS, TOKENS)
    ahead[..., 2:5, 2:5] = True
    for index, _, run in attending(one):
        plain, free = run(hidden.clone()), run(hidden.clone(), allowed=ahead)
        differs = (plain - free).abs().amax(-1)[0] > 1e-4
        assert differs[2:4].all() and not differs[[0, 1, 4, 5, 6, 7]].any(), f"layer {index}"


# --- all layers in one forward


@pytest.mark.relies("vlm/running/plain_forward.py")
@pytest.mark.parametrize("left", [0, 3])
def test_the_whole_forward_takes_states_positions_and_a_mask(one, err, left):
    """Its layers and its last norm are entered with the stream, which is that of each alone.

    Or it refuses masks by the kind of layer, with an error that we know: then there is no such way.
    """
    hidden, allowed = one.hidden(TOKENS), causal(TOKENS, TOKENS)
    allowed[..., :left] = False
    places = torch.arange(TOKENS).expand(3, -1)
    caught = []

    def catch(module, args, kwargs):
        caught.append((args[0] if args else kwargs["hidden_states"]).clone())

    hooks = [
        stage.register_forward_pre_hook(catch, with_kwargs=True)
        for stage in (*one.text.layers, one.text.norm)
    ]
    try:
        one.text(
            inputs_embeds=hidden.clone(),
            position_ids=one.family.decoder.axes(places),
            attention_mask=one.family.decoder.mask(one.text, allowed, hidden, 0),
            use_cache=False,
        )
    except DISAGREEMENTS:
        assert one.family.model_type == "qwen3_5"
        return
    finally:
        for hook in hooks:
            hook.remove()
    assert len(caught) == LAYERS_AND_NORM
    for index, _, run in layers_of(one):
        hidden = run(hidden.clone(), allowed=allowed)
        assert err(caught[index + 1][:, left:], hidden[:, left:]) <= 1e-5, f"layer {index}"
