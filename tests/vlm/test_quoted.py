"""Text of others as messages repeat it: a line, in letters."""

import pytest

from vlm.quoted import printable, reason, told

LOUD = "\x1b[31mred\x1b[0m\r\nsecond \u202eline\ud800"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("too large. "), "too large"),
        (ValueError(LOUD), r"\x1b[31mred\x1b[0m"),
        (ValueError("a\u202eb\ud800"), r"a\u202eb\ud800"),
        (ValueError(""), "ValueError"),
        (ValueError("\n\nlate"), "late"),
        (KeyError("version"), "it lacks 'version'"),
        (KeyError("x" * 5000), "it lacks '" + "x" * 190 + "…"),
        (ValueError("é" * 5000), "é" * 200 + "…"),
    ],
)
def test_what_others_say_is_a_line(error, said):
    assert reason(error) == said
    assert reason(error).isprintable() and len(reason(error)) < 202


def test_all_letters_stay():
    assert printable("家 é 👩‍💻"[:4]) == "家 é "
    assert printable(LOUD) == r"\x1b[31mred\x1b[0m\r\nsecond \u202eline\ud800"
    assert told(LOUD).isprintable()
