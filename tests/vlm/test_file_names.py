"""Names of files that any system takes."""

import pytest

from vlm.files.names import is_file_name

GOOD = (
    "a",
    "boat 1",
    "a.b",
    "家",
    "Müller",
    "👩‍🚀",
    "console",
    "com",
    "com10",
    "nully.con",
    "x" * 200,
)
BAD = {
    "nothing": "",
    "a folder": "a/b",
    "a folder of Windows": "a\\b",
    "an escape": "\x1b[2Jx",
    "a tab": "a\tb",
    "a control of Latin-1": "a\x85",
    "half a letter": "a\ud800",
    "a turned direction": "a\u202egnp",
    "hidden": ".a",
    "a dot behind": "a.",
    "a space behind": "a ",
    "201 letters": "x" * 201,
    "201 bytes": "é" * 100 + "x",
    "nul": "nul",
    "NUL with an ending": "NUL.a.b",
    "a device": "Com1",
    "another": "lpt³",
    "a space before the ending": "con .a",
}


@pytest.mark.parametrize("name", GOOD)
def test_names_that_any_system_takes(name):
    assert is_file_name(name)


@pytest.mark.parametrize("what", BAD)
def test_names_that_some_system_refuses(what):
    assert not is_file_name(BAD[what])
