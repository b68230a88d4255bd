"""The contact sheet and the page of workflows/api/sweep.py, which show what is there."""

from __future__ import annotations

import html.parser
import importlib.util
import os
import sys
import urllib.parse

import pytest
from PIL import Image
from played_comfy import PNG, load, pictures, words_for

sweep = load("sweep")
axes = importlib.import_module("sweeping.axes")
workflow = importlib.import_module("sweeping.workflow")


def run(comfy, out, *words):
    return sweep.main(words_for(comfy, out, *words))


class Page(html.parser.HTMLParser):
    """Tags of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_a_sheet_and_an_index_page(comfy, tmp_path):
    evil = "<script>alert('猫')</script>"
    words = ["--alpha", "0,0.3,0.5", "--layers=-2,-8", "--prompt", evil]
    assert run(comfy, tmp_path, *words) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 48 and sheet.height > 2 * 32
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(100_000)}
    made = {Image.open(path).convert("RGB").getpixel((0, 0)) for path in pictures(tmp_path)}
    assert len(made) == 6 and made <= colours
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert "script" not in [tag for tag, _ in page.tags]
    assert evil in page.text and "alpha 0.3" in page.text and "layers -8" in page.text
    linked = [urllib.parse.unquote(found["src"]) for tag, found in page.tags if tag == "img"]
    assert sorted(linked) == sorted(path.name for path in pictures(tmp_path))
    assert sum(tag == "tr" for tag, _ in page.tags) == 3


def test_after_a_stop_the_pages_show_what_is_there(comfy, tmp_path, monkeypatch):
    """Killed in the third picture, started again: only what was missing is made."""
    runs, old = [], sweep.Server.run

    def stopping(server, prompt):
        runs.append(prompt)
        if len(runs) == 3:
            raise KeyboardInterrupt
        return old(server, prompt)

    monkeypatch.setattr(sweep.Server, "run", stopping)
    assert run(comfy, tmp_path, "--alpha=0,0.1,0.2,0.3") == 130
    before = {path: path.stat().st_mtime_ns for path in pictures(tmp_path)}
    assert len(before) == 2 and not list(tmp_path.glob("*.part"))
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert sum(tag == "img" for tag, _ in page.tags) == 2 and "alpha 0.3" in page.text
    small = Image.open(tmp_path / "sheet.png").width
    assert run(comfy, tmp_path, "--alpha=0,0.1,0.2,0.3") == 0
    assert len(comfy.prompts) == 4 and len(pictures(tmp_path)) == 4
    assert all(path.stat().st_mtime_ns == made for path, made in before.items())
    assert Image.open(tmp_path / "sheet.png").width > small


def test_a_picture_that_was_cut_short_is_not_there(tmp_path, comfy, monkeypatch):
    """Killed while it writes: the file has another name until it is whole."""
    monkeypatch.setattr(os, "replace", lambda source, place: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(comfy, tmp_path, "--alpha=0")
    assert not pictures(tmp_path)


def test_without_pillow_there_is_a_page_and_a_sentence(comfy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("played_comfy.png", lambda _: PNG)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert run(comfy, tmp_path, "--alpha=0,0.3") == 0
    assert "Install Pillow" in capsys.readouterr().err
    assert (tmp_path / "index.html").exists() and not (tmp_path / "sheet.png").exists()
