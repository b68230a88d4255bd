"""Every language says all that nodes, panel and help pages say, and nothing else."""

from __future__ import annotations

import re

import pytest

from tools import help_pages, translate

LANGUAGES = translate.languages()
# The page compiles these texts as vue-i18n messages, in which these characters mean something.
SYNTAX = set("{}@|")
# A page's code, and what it quotes of an error: English everywhere, for that is what one sees.
VERBATIM = re.compile(r"^```.*?^```|^> .*?$|^<img .*?$", re.DOTALL | re.MULTILINE)
FIRST_CELL = re.compile(r"^\|([^|]*)\|", re.MULTILINE)
CODE = re.compile(r"`[^`\n]+`")
NUMBER = re.compile(r"(?<![\w.,-])\d+(?:\.\d+)?")
# Chinese and Japanese have punctuation of their own.
HALF_WIDTH = re.compile(
    r"[\u3040-\u30ff\u4e00-\u9fff][,;:?!(]|[,;:?!)][\u3040-\u30ff\u4e00-\u9fff]"
)
SHAPE = re.compile(r"\[[^\]]*\]")  # of a tensor
# What is the same in every language: numbers, and widgets by their names.
SAME = re.compile(r"`\w+`|(?<![\w.])-?\d+(?:\.\d+)?")


def test_there_are_languages():
    assert {"ja", "zh"} <= set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_missing_and_none_is_left_over(language):
    """Each line says what to add to or take out of the phrases (docs/translating.md)."""
    assert translate.faults(translate.wanted(), translate.read(language, "phrases.json")) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_locale_is_made_from_the_phrases(language):
    for name, made in translate.made_of(language).items():
        assert translate.read(language, name) == made, "run python -m tools.translate"


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_and_widgets_are_as_in_english(language):
    wrong = {}
    for english, words in translate.read(language, "phrases.json").items():
        lost = set(SAME.findall(english)) - set(SAME.findall(words))
        if lost or SYNTAX & set(words):
            wrong[english] = lost or "characters of the page's syntax"
    assert wrong == {}


@pytest.mark.parametrize("language", ["ja", "zh"])
def test_punctuation_is_the_language_s_own(language):
    pages = [path.read_text("utf-8") for path in help_pages.DOCS.glob(f"*/{language}.md")]
    said = [*translate.read(language, "phrases.json").values()]
    said += [line for text in pages for line in prose(text).splitlines()]
    assert [text for text in said if HALF_WIDTH.search(SHAPE.sub("", text))] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_help_page_is_there_and_up_to_date(language):
    """Each line says which page to write, to bring up to date or to take out."""
    assert help_pages.faults(language) == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("english", help_pages.english_pages(), ids=lambda page: page.stem)
def test_a_help_page_shows_what_the_english_one_shows(english, language):
    """Wires, errors, widgets, code and numbers are the same, in the same order of sections."""
    own = help_pages.page(english, language).read_text("utf-8")
    text, own = english.read_text("utf-8"), help_pages.without_mark(own)
    assert VERBATIM.findall(own) == VERBATIM.findall(text)
    assert len(help_pages.sections(own)) == len(help_pages.sections(text))
    text, own = prose(text), prose(own)
    assert cells(own) == cells(text)
    for same in (CODE, NUMBER):
        assert set(same.findall(text)) <= set(same.findall(own))
    name = translate.read(language, "nodeDefs.json")[english.stem]["display_name"]
    assert own.startswith(f"# {name}\n")


def prose(text):
    """What is left to translate, a paragraph in one line."""
    joined = re.sub(r"(?<=\S)\n(?=[^\s|>*#-])", " ", VERBATIM.sub("", text))
    return re.sub(r"(?<=\S)\n(?=\*\*)", " ", joined)


def cells(text):
    """The code in the first cell of each row: the name of a widget, or a value of one."""
    return [CODE.findall(cell) for cell in FIRST_CELL.findall(text)]


def test_a_changed_text_is_missing_and_left_over():
    english = {"A": {"display_name": "Blend", "description": "Mixes two pictures."}}
    phrases = {"Blend": "混合", "Mixes two picture.": "混合两张图像。"}
    wanted = {text for _, text in translate.texts(english)}
    missing, left_over = translate.faults(wanted, phrases)
    assert missing == "add 'Mixes two pictures.'; it was 'Mixes two picture.'"
    assert left_over.startswith("take out 'Mixes two picture.'")
    assert translate.translated(english, phrases) == {"A": {"display_name": "混合 Blend"}}


def test_a_changed_page_is_stale_by_section():
    english = "# Node\n\nMixes.\n\n## Inputs\n\nOne.\n\n## Cost\n\nNone.\n"
    own = help_pages.mark("# 节点 Node\n\n混合。\n", english)
    assert help_pages.changed(own, english.replace("One.\n\n", "One.\n")) == []
    assert help_pages.changed(own, english.replace("One.", "Two.")) == ["Inputs"]
    assert help_pages.changed(own, english.replace("## Cost\n\nNone.\n", "")) == [
        "1 that the English page no longer has"
    ]
    assert help_pages.changed(help_pages.without_mark(own), english) == ["Node", "Inputs", "Cost"]
    assert help_pages.mark(own, english) == own
