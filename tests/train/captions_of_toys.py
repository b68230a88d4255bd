"""Captions for the tests: a few hundred sentences of a small vocabulary, always the same."""

import random

_A = ("the old", "a red", "one small", "a wooden", "two quiet", "some glass", "the blue", "a big")
_N = ("house", "dog", "river", "mountain", "city", "boat", "tree", "lamp", "bird", "road")
_V = ("under", "beside", "near", "above", "behind", "inside", "over", "before")


def captions(count, seed=0):
    """So many sentences."""
    draw = random.Random(seed)
    made = (
        " ".join(draw.choice(words) for words in (_A, _N, _V, _A, _N)) for _ in range(10 * count)
    )
    return list(dict.fromkeys(made))[:count]


def write_captions(folder, count, seed=0):
    """The same as a text file."""
    file = folder / "captions.txt"
    file.write_text("\n".join(captions(count, seed)) + "\n", encoding="utf-8")
    return file
