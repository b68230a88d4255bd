"""Byte-level tokenizer of the built-in tiny models: Qwen's special tokens, a vocabulary of our own.

The files are written by hand from a short text in this module, so that neither `tokenizers` nor
`transformers` is needed to make them and every version of both reads the same merges.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

# Qwen's own split (Qwen2 tokenizer.json): contractions, words, single digits, punctuation, space.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Qwen3's added tokens in Qwen3's order; the first fourteen are the special ones.
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
ORDINARY = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>",
    "<think>", "</think>",
)  # fmt: skip

MERGES = 640  # with 256 bytes and 26 added tokens: 922 ids, embedding rows rounded up to 960

# What the merges are learnt from: the words that picture prompts and chat templates are made of.
CORPUS = """
system user assistant You are a helpful assistant. system user assistant
Describe this image. Describe the image by detailing the color, shape, size, texture, quantity,
text, spatial relationships of the objects and background. Describe the key features of the input
image, then explain how the user's text instruction should alter or modify the image.
A red house on a green hill under a blue sky. A red house. The red house by the blue river.
A photograph of a cat sleeping on a wooden table, soft morning light, shallow depth of field.
A portrait of an old woman with a yellow scarf, oil painting in the style of the picture.
Two dogs playing in the snow, a child watching them from the window of the house.
An astronaut riding a white horse through a forest of glass, cinematic lighting, high detail.
A street at night in the rain, neon signs reflected in the water, people with umbrellas.
A bowl of fruit: three apples, two oranges and a bunch of dark grapes on a linen cloth.
A black and white drawing of mountains, trees and clouds; ink on paper, minimal composition.
The same picture as a watercolor painting with warm colors and a bright background.
What is in the picture? How many people are there? Where is the red circle? Picture 1: Picture 2:
It's a picture that doesn't show what we've seen; they're there, I'm sure, he'll say so, she'd not.
Use the first image for the style and the second image for the content of the new image.
large small round square long short left right top bottom center front behind between above below
red orange yellow green blue purple pink brown black white grey golden silver dark light bright
man woman boy girl face eyes hair hand dress shirt shoes hat car train ship bridge tower castle
sea ocean beach island desert garden flower flowers leaf leaves grass stone rock sand fire smoke
sunset sunrise summer winter spring autumn morning evening night day sun moon star stars
photo photograph photorealistic render illustration sketch anime pixel art vintage modern abstract
highly detailed sharp focus masterpiece best quality 4k 8k ultra wide angle close-up macro bokeh
Text input Instruction editing description image input Style Information Only from Reference Image
Comprehend and analyze the provided prompt. Generate the image with more details.
<image1> <image2> \n\n \n \t\t    ,  .  ;  :  !  ?  ...  --  ()  []  {}  ""  ''  //  ==  **  ##
一只红色的猫 一座红色的房子 图片 图像 描述这张图片 你好 世界 山 水 天空 风景 照片 画
赤い家 猫 写真 絵 こんにちは 빨간 집 고양이 안녕하세요 красный дом кошка maison rouge château
été garçon naïve über größe niño señor façade 🙂 🎨 🐱 🏠 🌊 🔥 ❤️ 👍🏽 👨‍👩‍👧
"""


def byte_letters() -> list[str]:
    """The printable letter that stands for each byte value 0..255 in byte-level vocabularies.

    Returns:
        256 single characters. Source: byte-level BPE as GPT-2 and Qwen store it.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        letters.setdefault(byte, chr(256 + byte - sum(b < byte for b in printable)))
    return [letters[byte] for byte in range(256)]


_BYTES = byte_letters()


def in_bytes(word: str) -> list[str]:
    """The letters of a word in byte-level vocabularies."""
    return [_BYTES[byte] for byte in word.encode()]


def _words(text: str, spell: Callable[[str], list[str]]) -> Counter[tuple[str, ...]]:
    pieces = re.findall(r"[^\w\r\n]?[^\W\d_]+| ?[^\s\w]+|\n+| +", text)
    return Counter(tuple(spell(piece)) for piece in pieces)


def _join(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    i = 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def learn_merges(
    text: str = CORPUS, count: int = MERGES, spell: Callable[[str], list[str]] = in_bytes
) -> list[tuple[str, str]]:
    """Pair merges of a text, most frequent first, ties in alphabetical order.

    Args:
        text: what to learn from.
        count: at most this many merges.
        spell: a word to its letters, as the vocabulary has them.

    Returns:
        Pairs of strings of letters in the order they apply.
    """
    words = _words(text, spell)
    pairs: Counter[tuple[str, str]] = Counter()
    for word, times in words.items():
        for pair in zip(word, word[1:], strict=False):
            pairs[pair] += times
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        best = min(pairs, key=lambda p: (-pairs[p], p), default=None)
        if best is None or pairs[best] <= 0:
            break
        merges.append(best)
        for word in [w for w in words if best in zip(w, w[1:], strict=False)]:
            times = words.pop(word)
            joined = _join(word, best)
            words[joined] += times
            for pair in zip(word, word[1:], strict=False):
                pairs[pair] -= times
            for pair in zip(joined, joined[1:], strict=False):
                pairs[pair] += times
        del pairs[best]
    return merges


def _added(first: int, specials: Sequence[str], ordinary: Sequence[str]) -> list[dict]:
    names = [(name, True) for name in specials] + [(name, False) for name in ordinary]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": first + i, "content": name, **plain, "special": special}
        for i, (name, special) in enumerate(names)
    ]


def make_tokenizer(specials: Sequence[str] = SPECIAL, ordinary: Sequence[str] = ORDINARY) -> dict:
    """The content of tokenizer.json: NFC, Qwen's split, byte-level BPE, added tokens.

    Args:
        specials: The special added tokens; Qwen's.
        ordinary: The other added tokens.

    Returns:
        A dict in the layout of the `tokenizers` library; ids start at 0 with the 256 bytes,
        then the merges, then the added tokens.
    """
    letters = sorted(byte_letters())
    merges = learn_merges()
    vocab = {token: i for i, token in enumerate([*letters, *(a + b for a, b in merges)])}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(len(vocab), specials, ordinary),
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split, {**level, "use_regex": False}],
        },
        "post_processor": {**level, "use_regex": False},
        "decoder": {**level, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [[a, b] for a, b in merges],
        },
    }


def make_tokenizer_config(tokenizer: dict, chat_template: str, processor: str | None) -> dict:
    """The content of tokenizer_config.json that goes with `make_tokenizer`.

    Args:
        tokenizer: what `make_tokenizer` returned.
        chat_template: Jinja text of the family's chat template.
        processor: name of the family's processor class; None = it has none.
    """
    decoder = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in tokenizer["added_tokens"]
    }
    named = {} if processor is None else {"processor_class": processor}
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": list(SPECIAL[1:]),
        "bos_token": None,
        "chat_template": chat_template,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 32768,
        "pad_token": "<|endoftext|>",
        **named,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
