"""A model's tokenizer, so that typed text never becomes a special token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from ..files.json_file import read_json
from ..quoted import printable, reason
from .chat_template import ChatTemplate

_UNREAD = ("added_tokens_file", "special_tokens_map_file")  # of older versions; nobody opens them


class Tokenizer:
    """BPE of a model folder, its special tokens and its chat template.

    Attributes:
        specials: Every added token but those of blank space; only template text is searched for
            them.
        chat_template: Its chat template; false where there is none.
        begin: Special tokens that it puts before a text by itself.
    """

    def __init__(self, folder: str | Path, chat_template: str | None = None, config: Any = None):
        """Reads tokenizer.json (or vocab.json and merges.txt) and the chat template.

        Args:
            folder: A folder in Hugging Face layout.
            chat_template: Used instead of the folder's, for a folder of another model; None = the
                folder's.
            config: transformers' own config object of the model in that folder, so that its
                config.json is not read a second time with other eyes; None = it is read, if there
                is one.

        Raises:
            ValueError: A tokenizer that cannot be read (`folder.check_tokenizer` says more).
        """
        from transformers import AddedToken, AutoTokenizer

        folder = Path(folder)
        check_names(folder)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, config=config
            )
        except BaseException as error:  # what a strange value ends in depends on transformers
            if not _is_failure(error):
                raise
            raise ValueError(
                f"The tokenizer in {folder} cannot be read ({reason(error, 300)}). "
                "Download its tokenizer files again."
            ) from error
        source = chat_template or self._tokenizer.chat_template or _chat_template_of(folder)
        if isinstance(source, dict):  # several by name; the others are for tools
            source = source.get("default")
        self.chat_template = ChatTemplate(self._tokenizer, source)
        self._backend = self._tokenizer.backend_tokenizer
        self.specials = frozenset(filter(is_marker, self._tokenizer.get_added_vocab()))
        self.begin = self._put_before()
        added = self._tokenizer.added_tokens_decoder.items()
        self._silent = frozenset(number for number, token in added if token.special)
        # These added tokens become special and special ones are left unparsed: from here on the
        # backend reads any text as ordinary text, and special tokens enter by id only.
        self._backend.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in sorted(self.specials)]
        )
        self._backend.encode_special_tokens = True
        # Text is split in pieces that stand behind a special token: none is the first of a prompt,
        # before which some tokenizers put a space.
        if getattr(self._backend.pre_tokenizer, "prepend_scheme", None) == "first":
            self._backend.pre_tokenizer.prepend_scheme = "never"

    def _put_before(self) -> tuple[str, ...]:
        """The special tokens in front of a text that it splits by itself."""
        with _whole():
            encoding = self._backend.encode("a", add_special_tokens=True)
            pairs = list(zip(encoding.tokens, encoding.special_tokens_mask, strict=True))
        return tuple(token for token, _ in takewhile(lambda pair: pair[1], pairs))

    @property
    def stops(self) -> frozenset[int]:
        """Id of the token that ends a text, where the tokenizer names one."""
        return self.find(self._tokenizer.eos_token or "")

    @property
    def pad_token(self) -> str | None:
        """The token that it pads with, or else the one that ends a text."""
        return self._tokenizer.pad_token or self._tokenizer.eos_token

    def size(self, without: Sequence[str] = ()) -> int:
        """One more than its largest token id, some tokens not counted."""
        known = self._backend.get_vocab(with_added_tokens=True)
        numbers = (number for token, number in known.items() if token not in without)
        return max(numbers, default=-1) + 1

    def id_of(self, token: str) -> int:
        """Id of one special token.

        Raises:
            ValueError: The tokenizer has no such token.
        """
        found = self._backend.token_to_id(token)
        if found is None:
            raise ValueError(
                f"The tokenizer has no token {token}. "
                "The tokenizer files do not belong to this model; download them again."
            )
        return found

    def find(self, *tokens: str) -> frozenset[int]:
        """Ids of those of some special tokens that the tokenizer has."""
        return frozenset(self.id_of(token) for token in tokens if token in self.specials)

    def split(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of ordinary text, and the characters [start, end) that each one covers."""
        if not text:
            return [], []
        with _whole():
            encoding = self._backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def text_of(self, ids: list[int]) -> str:
        """Text of ids, special tokens included."""
        with _whole():
            return self._backend.decode(ids, skip_special_tokens=False)

    def words_of(self, ids: Sequence[int]) -> str:
        """Text of ids without the special tokens, as transformers skips them."""
        spoken = [number for number in ids if number not in self._silent]
        with _whole():
            return self._backend.decode(spoken, skip_special_tokens=False)


def _is_failure(error: BaseException) -> bool:
    """Whether something failed or panicked, and was not interrupted."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@contextmanager
def _whole() -> Iterator[None]:
    """A sentence in place of what tokenizers ends in where files contradict themselves.

    Its panics are no `Exception`.

    Raises:
        ValueError: It failed or panicked.
    """
    try:
        yield
    except BaseException as error:
        if not _is_failure(error):
            raise
        raise ValueError(
            f"The tokenizer cannot be used ({reason(error, 300)}): its files contradict one "
            "another. Download its tokenizer files again."
        ) from error


def check_names(folder: Path) -> None:
    """Refuses files that tokenizer_config.json names itself: they could lie anywhere.

    Raises:
        ValueError: It names one.
    """
    file = folder / "tokenizer_config.json"
    config = read_json(file) if file.is_file() else {}
    for key, value in config.items():
        named = value if isinstance(value, list) else [value]
        outside = key == "fast_tokenizer_files" and any(Path(str(n)).name != n for n in named)
        if outside or (key.endswith("_file") and key not in _UNREAD and value is not None):
            key = printable(key[:60])
            raise ValueError(
                f"{file.name} in {folder} sets {key} to {str(value)[:100]!r}, but a tokenizer is "
                f"read from the files of its folder alone. Remove {key} from {file.name}."
            )


def is_marker(token: str) -> bool:
    """Whether an added token is not just blank space; some of Gemma's are, with "▁" for " "."""
    return bool(token.replace("▁", " ").strip())


def _chat_template_of(folder: Path) -> str | None:
    """The template of chat_template.json, where processors keep it and tokenizers do not look."""
    file = folder / "chat_template.json"
    return read_json(file).get("chat_template") if file.is_file() else None
