"""System prompts in files: the text that was written, whatever wrote it, and words for the rest."""

from __future__ import annotations

import os

import pytest

from vlm.prompts.system_file import MOST_BYTES, read_system_prompt

TEXT = "You rewrite prompts.\n\n  家, “quoted”."


@pytest.mark.parametrize(
    "written",
    [
        TEXT,
        f"{TEXT}\n",
        f"\ufeff{TEXT}\r\n".replace("\n", "\r\n"),
        TEXT.replace("\n", "\r"),
        f"\n\n \t{TEXT}  \n",
    ],
    ids=["plain", "a last line end", "Windows with a mark", "an old Mac", "white space"],
)
def test_the_text_is_the_same_whatever_wrote_it(tmp_path, written):
    (tmp_path / "pe.txt").write_bytes(written.encode())
    assert read_system_prompt(tmp_path / "pe.txt") == TEXT


def test_as_much_as_is_read(tmp_path):
    (tmp_path / "pe.txt").write_bytes(b"a" * MOST_BYTES)
    assert len(read_system_prompt(str(tmp_path / "pe.txt"))) == MOST_BYTES


ODD = {
    "UTF-16": (TEXT.encode("utf-16"), r"pe.txt is not text in UTF-8 \(its byte 0 is none\). Save"),
    "UTF-16 without a mark": ("You".encode("utf-16-le"), r"its byte 1 is none"),
    "GBK": ("改写 prompt".encode("gbk"), r"its byte 0 is none"),
    "Latin-1": ("über".encode("latin-1"), r"its byte 0 is none"),
    "a picture": (b"\x89PNG\r\n\x1a\n", r"its byte 0 is none"),
    "cut in a letter": (b"a" + "家".encode()[:2], r"its byte 1 is none"),
    "nothing": (b"", "pe.txt is empty. Write"),
    "a mark alone": ("\ufeff \r\n".encode(), "pe.txt is empty"),
    "too large": (b"a" * (MOST_BYTES + 1), "pe.txt is larger than 64 KB, the most that is read"),
}


@pytest.mark.parametrize("what", ODD)
def test_what_cannot_be_one_is_refused_in_words(tmp_path, what):
    content, said = ODD[what]
    (tmp_path / "pe.txt").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_system_prompt(tmp_path / "pe.txt")


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no system prompt file .*pe.txt"):
        read_system_prompt(tmp_path / "pe.txt")
    with pytest.raises(ValueError, match="is no file"):
        read_system_prompt(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.txt")
        with pytest.raises(ValueError, match="pipe.txt is no file"):
            read_system_prompt(tmp_path / "pipe.txt")
