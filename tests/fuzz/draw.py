"""Draws inputs: one seed, one surface and one number are one input, here and on any machine."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Sequence
from typing import Any, TypeVar

import torch

T = TypeVar("T")

# Texts that programs fall over: other scripts, marks that nobody sees, half letters, words of
# syntaxes, names of devices, paths that lead out.
TEXTS = (
    "", " ", "\n", "\t", "a", "-", "--", ",", ":", ";", "(", ")", "((a:1.5", "(a:1e999)", "{}",
    "[]",
    "null", "nan", "inf", "-inf", "1e999", "²", "٣", "½", "１", "0x10", "1_000", "+1", "-0", "--2",
    "all", "auto", "all,all", "-1", "0", "1:2:0", "::", "2:36:3", "-2:0.7,-8:0.3", "1,2,", "1;2",
    "ünï", "日本語", "שלום", "a\u202eb", "\u200f", "\u2066x", "\ufeff", "e\u0301" * 9,
    "👩‍👩‍👧", "\x00",
    "a\x00b", "\x1b[31m", "\x7f", "\ud800", "a\udfffb", "<image1>", "<image9>", "<|im_start|>",
    "<|vision_start|>", "<|image_pad|>" * 3, "embedding:", "embedding:x", "embedding:../x",
    "{{ 1/0 }}", "{% for a in range(10**9) %}{% endfor %}", "%s%n", "${HOME}", "~", ".", "..",
    "../x", "/etc/passwd", "con", "nul.txt", "a" * 300, "b/c", "a\\b", "x.safetensors", "<b>a</b>",
)  # fmt: skip
WHOLE = (0, 1, -1, 2, -2, 3, 5, 7, 16, 31, 32, 64, 255, 1000, 65536, 2**31 - 1, 2**31, -(2**31))
WHOLE += (2**40, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64, 10**19, 10**30, 10**400)
NUMBERS = (0.0, -0.0, 1.0, 0.3, 0.5, -0.5, 1.5, 2.0, 1e-3, 1e-30, 1e-320, 5e-324, 100.0, 1e6, 1e38)
NUMBERS += (1e39, 3.5e38, 1e300, 1.7e308, -1e308, float("inf"), float("-inf"), float("nan"))
DTYPES = (torch.float32, torch.float32, torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Draw(random.Random):
    """Numbers, texts and tensors out of a seed; the methods of `random.Random` beside them."""

    def one(self, *choices: T) -> T:
        """One of these."""
        return self.choice(choices)

    def chance(self, share: float) -> bool:
        """True in this share of draws."""
        return self.random() < share

    def whole(self) -> int:
        """A whole number: small, or at a border."""
        return self.randint(-8, 40) if self.chance(0.6) else self.choice(WHOLE)

    def number(self) -> float | int:
        """A number: sane, at a border, or none."""
        kind = self.random()
        if kind < 0.4:
            return round(self.uniform(-2, 3), 3)
        return self.choice(NUMBERS) if kind < 0.8 else self.whole()

    def text(self) -> str:
        """A text: odd, of letters, of digits, long, or a few of these together."""
        kind = self.random()
        if kind < 0.5:
            return self.choice(TEXTS)
        if kind < 0.7:
            return "".join(self.choices(string.printable, k=self.randint(1, 30)))
        if kind < 0.8:
            return self.choice("0123456789-.") * self.one(1, 40, 5000)
        if kind < 0.9:
            return self.choice(TEXTS) * self.one(2, 50, 2000)
        return self.one(" ", ",", ":", "/").join(self.text() for _ in range(self.randint(2, 3)))

    def words(self) -> str:
        """A prompt: mostly words, with something odd among them."""
        plain = ["a red house", "two cats", "(old:1.3) tree", "a boat at night", ""]
        return self.choice(plain) + (self.text() if self.chance(0.6) else "")

    def value(self, depth: int = 2) -> Any:
        """Plain data of any kind, as JSON could hold it."""
        kind = self.random()
        if kind < 0.2:
            return self.whole()
        if kind < 0.4:
            return self.number()
        if kind < 0.65 or not depth:
            return self.text()
        if kind < 0.8:
            return self.one(None, True, False)
        if kind < 0.9:
            return [self.value(depth - 1) for _ in range(self.randint(0, 3))]
        return {self.text()[:20]: self.value(depth - 1) for _ in range(self.randint(0, 3))}

    def tensor(self, *shape: int, dtype: torch.dtype | None = None, most: float = 1.0) -> Any:
        """A tensor of finite numbers up to about `most`, in a drawn or the given dtype."""
        made = torch.Generator().manual_seed(self.getrandbits(40))
        numbers = torch.randn(shape, generator=made) * most
        return numbers.to(self.choice(DTYPES) if dtype is None else dtype)

    def odd_tensor(self) -> torch.Tensor:
        """A tensor that hardly anything expects."""
        shape = [self.randint(0, 5) for _ in range(self.randint(0, 4))]
        kind = self.randint(0, 6)
        if kind == 0:
            return torch.full(shape, self.one(float("nan"), float("inf"), 1e38, -1.0))
        if kind == 1:
            return torch.zeros(shape, dtype=self.one(torch.int64, torch.bool, torch.complex64))
        if kind == 2:
            return torch.zeros(self.randint(1, 4), self.randint(1, 4)).to_sparse()
        if kind == 3:
            return torch.zeros(shape, device="meta")
        if kind == 4:
            return torch.zeros(1).expand(*[self.one(1, 3, 10**6)] * self.randint(1, 3))
        return self.tensor(*shape)

    def cut(self, data: bytes) -> bytes:
        """Bytes with one to four changes: flipped, cut, doubled, overwritten."""
        out = bytearray(data)
        for _ in range(self.randint(1, 4)):
            at = self.randrange(len(out) + 1)
            kind = self.randint(0, 4)
            if kind == 0 and out:
                out[at % len(out)] ^= 1 << self.randint(0, 7)
            elif kind == 1:
                del out[at:]
            elif kind == 2:
                del out[at : at + self.randint(1, 64)]
            elif kind == 3:
                out[at:at] = self.randbytes(self.randint(1, 16))
            else:
                out[at : at + 8] = self.one(b"\0" * 8, b"\xff" * 8, b"\xff" * 7 + b"\x7f")
        return bytes(out)

    def changed(self, data: Any, keys: Sequence[str] = ()) -> Any:
        """Plain data with a value at a random place replaced, removed or added; a copy.

        Args:
            data: What JSON holds.
            keys: Names that mean something where it is read.
        """
        data = json.loads(json.dumps(data))
        for _ in range(self.one(1, 1, 1, 2, 3)):
            place = data
            while True:  # down to some container
                inside = list(place.values()) if isinstance(place, dict) else list(place)
                inside = [one for one in inside if isinstance(one, dict | list) and one]
                if not inside or self.chance(0.4):
                    break
                place = self.choice(inside)
            self._change(place, keys)
        return data

    def _change(self, place: Any, keys: Sequence[str]) -> None:
        names = list(place) if isinstance(place, dict) else list(range(len(place)))
        kind = self.random()
        if kind < 0.2 and names:
            del place[self.choice(names)]
        elif kind < 0.35 and isinstance(place, dict):
            place[self.choice(keys) if keys and self.chance(0.7) else self.text()] = self.value()
        elif names:
            place[self.choice(names)] = self.value()

    def json_text(self, data: Any) -> str:
        """JSON as a file has it, now and then broken, deep, or with numbers beyond any."""
        text = json.dumps(data, ensure_ascii=self.chance(0.5))
        kind = self.random()
        if kind < 0.06:
            return "[" * self.one(10, 2000, 200_000) + text
        if kind < 0.12:
            return text.replace(":", ": 1" + "0" * self.one(400, 5000) + ", " * 0, 1)
        if kind < 0.2:
            return self.cut(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
        return text


def write_text(file: Any, text: str) -> None:
    """Writes a text that may hold half letters, which UTF-8 has no bytes for."""
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
