"""Contact sheet: where pictures and labels stand, and letters of any script."""

import numpy as np
import pytest
from PIL import Image

from vlm.report import writing
from vlm.report.contact_sheet import Table, contact_sheet, find_table, side_by_side
from vlm.report.writing import Writing, missing_letters, one_line

RED, BLUE = (200, 30, 30), (30, 30, 200)
LABELS = [f"alpha {a} · layer {k}" for k in (-2, -8) for a in (0, 0.3, 0.5)]


def plain(colour, size=(96, 64)):
    return Image.new("RGB", size, colour)


def boxes(sheet, colour):
    """First row, last row, first column and last column of a colour."""
    rows, cols = np.nonzero((np.asarray(sheet) == colour).all(axis=2))
    return rows.min(), rows.max(), cols.min(), cols.max()


def ink(sheet):
    return int((np.asarray(sheet.convert("L")) < 120).sum())


def test_two_axes_make_a_table():
    assert find_table(LABELS) == Table(
        ("alpha 0", "alpha 0.3", "alpha 0.5"), ("layer -2", "layer -8")
    )
    colours = [(40 * at + 20, 180, 90) for at in range(6)]
    sheet = contact_sheet([plain(each) for each in colours], LABELS)
    found = [boxes(sheet, each) for each in colours]
    assert len({top for top, *_ in found}) == 2
    assert len({left for _, _, left, _ in found}) == 3
    assert found[0][0] == found[2][0] and found[0][2] == found[3][2]
    for top, bottom, left, right in found:  # whole, at their size
        assert (bottom - top + 1, right - left + 1) == (64, 96)
    assert ink(sheet.crop((0, 0, sheet.width, found[0][0]))) > 100  # headings above
    assert ink(sheet.crop((0, found[0][0], found[0][2], sheet.height))) > 100  # and at the side


@pytest.mark.parametrize(
    "labels",
    [
        ["alpha 0", "alpha 0.3"],
        LABELS[:5],
        [*LABELS[3:], *LABELS[:2], "x"],
        ["a · b · c"],
        ["a · b", "a · b"],
        [],
    ],
)
def test_other_labels_make_none(labels):
    assert find_table(labels) is None


def test_labels_stand_under_their_pictures():
    bare = contact_sheet([plain(RED), plain(BLUE)])
    sheet = contact_sheet([plain(RED), plain(BLUE)], ["alpha 0", ""])
    assert bare.height < sheet.height and bare.width == sheet.width
    _, bottom, left, right = boxes(sheet, RED)
    assert ink(sheet.crop((left, bottom + 1, right, sheet.height))) > 20
    _, bottom, left, right = boxes(sheet, BLUE)
    assert ink(sheet.crop((left, bottom + 1, right, sheet.height))) == 0


def test_columns_and_sizes():
    many = [plain(RED)] * 12
    one, three = contact_sheet(many, columns=1), contact_sheet(many, columns=3)
    assert one.height > 12 * 64 and three.width > 3 * 96 > one.width
    small = contact_sheet([plain(RED, (800, 400)), plain(BLUE, (20, 30))], size=100)
    top, bottom, left, right = boxes(small, RED)
    assert (bottom - top + 1, right - left + 1) == (50, 100)
    top, bottom, left, right = boxes(small, BLUE)
    assert (bottom - top + 1, right - left + 1) == (30, 20)
    assert contact_sheet([plain(RED, (800, 400))], size=0).width > 800


def test_a_batch_stands_side_by_side():
    pair = side_by_side([plain(RED), plain(BLUE)])
    assert pair.width > 192 and pair.height == 64
    assert boxes(pair, RED)[3] < boxes(pair, BLUE)[2]
    assert side_by_side([pair]) is pair


def test_markup_is_text():
    """A label with HTML is as wide as its letters are."""
    letters = Writing(20)
    assert letters.width("<b>cat</b>") > letters.width("cat") * 2
    assert letters.wrap("<script>alert(1)</script>", 1000, 3) == ["<script>alert(1)</script>"]
    plain_ink = ink(contact_sheet([plain(RED, (300, 20))], ["cat"]))
    assert ink(contact_sheet([plain(RED, (300, 20))], ["<b>cat</b>"])) > plain_ink


@pytest.mark.skipif(bool(missing_letters("猫ねこ고양이")), reason="no font for these letters")
def test_letters_of_east_asia_are_drawn():
    """Different signs look different; boxes for missing ones would all look the same."""
    shown = [
        np.asarray(contact_sheet([plain(RED)], [sign])).tobytes()
        for sign in ("猫", "犬", "ね", "고")
    ]
    assert len(set(shown)) == 4
    lines = Writing(20).wrap("猫が窓辺で眠っているので静かに", 100, 9)
    assert len(lines) > 2 and all(Writing(20).width(line) <= 100 for line in lines)


def test_long_labels_end_in_dots():
    lines = Writing(16).wrap("word " * 100, 200, 3)
    assert len(lines) == 3 and lines[-1].endswith("…")
    assert all(Writing(16).width(line) <= 200 for line in lines)
    assert one_line(" a\n\tb\x00c\u202e ") == "a b c"


def test_letters_without_a_font_are_named(monkeypatch):
    assert missing_letters("plain Ж ·\n") == ""
    monkeypatch.setattr(writing, "_others", lambda: ())
    writing._face_of.cache_clear()
    assert missing_letters("a 猫, 猫") == "猫"
    writing._face_of.cache_clear()


def test_without_matplotlib_latin_is_written_in_pillows_own(monkeypatch):
    monkeypatch.setattr(writing, "_manager", lambda: None)
    made = [writing._base, writing._face_of, writing._others]
    for each in made:
        each.cache_clear()
    assert ink(contact_sheet([plain(RED)], ["alpha 0.3"])) > 30
    assert missing_letters("é猫") == "猫"
    for each in made:
        each.cache_clear()


@pytest.mark.parametrize(
    ("pictures", "labels", "more", "part"),
    [
        (0, [], {}, "needs a picture, and there is none"),
        (2, ["one"], {}, "2 pictures and 1 labels"),
        (1, [], {"size": -1}, "numbers from 0"),
        (1, [], {"columns": -1}, "numbers from 0"),
    ],
)
def test_what_is_refused(pictures, labels, more, part):
    with pytest.raises(ValueError, match=part):
        contact_sheet([plain(RED)] * pictures, labels, **more)


@pytest.mark.slow
def test_a_sheet_that_no_memory_holds_is_refused():
    large = plain(RED, (4096, 4096))
    with pytest.raises(ValueError, match="over 200 megapixels. Set size to a smaller number"):
        contact_sheet([large] * 16, size=0)
