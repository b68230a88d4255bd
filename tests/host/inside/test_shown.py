"""The line that a node shows: what files of others say in it is text, never HTML."""

from __future__ import annotations

import re

import pytest

LINES = {
    "notes <img src=//127.0.0.1:9/x>": "notes ‹img src=//127.0.0.1:9/x>",
    "<style>*{display:none}</style>": "‹style>*{display:none}‹/style>",
    "<!--": "‹!--",
    "<?xml": "‹?xml",
    "<\x00img>": "‹img>",
    "a < b, 3 <4, <|im_start|> and a\nline": "a < b, 3 <4, <|im_start|> and a\nline",
    "a\u202etxt.exe\x1b[2J": "atxt.exe[2J",
}


@pytest.mark.parametrize("line", LINES, ids=ascii)
def test_no_tag_begins(line):
    from pack.nodes.shown import shown

    ((said,),) = [shown(line, 1).ui["text"]]
    assert said == LINES[line] and not re.search(r"<[a-zA-Z/!?]", said)
