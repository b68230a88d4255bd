"""Ways to break a decoder layer: its forward to another forward, and the signature to show."""

from __future__ import annotations

import inspect

from vlm.running.decoder_layer import CACHE_NAMES


def _cache_name(forward):
    return next(name for name in CACHE_NAMES if name in inspect.signature(forward).parameters)


def parameters_of(forward):
    return list(inspect.signature(forward).parameters.values())


def renamed_cache(forward):
    """The cache has a name that nobody knows yet."""
    name = _cache_name(forward)

    def broken(self, hidden_states, kv_store=None, **kwargs):
        assert name not in kwargs
        return forward(self, hidden_states, **{name: kv_store}, **kwargs)

    shown = [
        one.replace(name="kv_store") if one.name == name else one for one in parameters_of(forward)
    ]
    return broken, shown


def new_argument(forward):
    """There is one argument more, without a default."""

    def broken(self, hidden_states, *, block_table, **kwargs):
        return forward(self, hidden_states, **kwargs)

    *shown, rest = parameters_of(forward)
    assert rest.kind is rest.VAR_KEYWORD
    return broken, [*shown, inspect.Parameter("block_table", inspect.Parameter.KEYWORD_ONLY), rest]


def renamed_mask(forward):
    """The mask has another name; who says the old one is not told."""

    def broken(self, hidden_states, block_mask=None, **kwargs):
        kwargs["attention_mask"] = block_mask
        return forward(self, hidden_states, **kwargs)

    shown = [
        one.replace(name="block_mask") if one.name == "attention_mask" else one
        for one in parameters_of(forward)
    ]
    return broken, shown


def returned_dict(forward):
    """States come in a dict."""

    def broken(self, *args, **kwargs):
        return {"hidden_states": forward(self, *args, **kwargs)}

    return broken, parameters_of(forward)


def another_cache(forward):
    """Attention asks the cache for something that ours has not."""
    name = _cache_name(forward)

    def broken(self, *args, **kwargs):
        if kwargs.get(name) is not None:
            kwargs[name].pages_of_next_year()
        return forward(self, *args, **kwargs)

    return broken, parameters_of(forward)


def returned_tuple(forward):
    """States come in a tuple, as those of 4.57 do."""

    def broken(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        return output if isinstance(output, tuple) else (output, None)

    return broken, parameters_of(forward)


def scaled(forward):
    """The residual stream grows by another factor."""

    def broken(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        output = output[0] if isinstance(output, tuple) else output
        return output * 1.01

    return broken, parameters_of(forward)


RAISING = (renamed_cache, new_argument, renamed_mask, returned_dict, another_cache)
# These two show only where a cache is given.
OF_THE_CACHE = (renamed_cache, another_cache)
