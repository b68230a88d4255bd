"""What a VLM has written so far: on its node while it writes, and kept where it is stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..vlm.logger import LOG
from ..vlm.prompts.tokenizer import Tokenizer
from .shown import tell

_EVERY = 0.5  # seconds between two looks at it


class Draft:
    """Takes the ids of an answer after each token; see `VLM.rewrite`."""

    def __init__(self, tokenizer: Tokenizer):
        """Begins empty.

        Args:
            tokenizer: Makes words of ids.
        """
        self._tokenizer = tokenizer
        self._before: list[str] = []  # answers that are written
        self._ids: Sequence[int] = ()
        self._shown = time.monotonic()

    def __call__(self, ids: Sequence[int]) -> None:
        """Takes what is written so far; an answer of one token is the next one."""
        if len(ids) == 1 and self._ids:
            self._before.append(self._tokenizer.words_of(self._ids))
        self._ids = ids
        if time.monotonic() - self._shown >= _EVERY:
            self._shown = time.monotonic()
            tell(self._words())

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Around the writing: what stops it leaves the words on the node and in the log."""
        try:
            yield
        except BaseException:  # ComfyUI's Cancel is none of Exception
            if self._ids:
                line = f"{self._words()}\nstopped here; `answer` takes it up as it stands"
                tell(line)
                LOG.warning("VLM Rewrite Prompt was stopped. It had written: %s", self._words())
            raise

    def _words(self) -> str:
        return numbered([*self._before, self._tokenizer.words_of(self._ids)])


def numbered(answers: Sequence[str]) -> str:
    """Answers below each other; with their numbers where there are several."""
    if len(answers) == 1:
        return answers[0]
    return "\n\n".join(f"{number}. {answer}" for number, answer in enumerate(answers, 1))
