"""Every language says all that the nodes say, and nothing that they no longer say."""

from __future__ import annotations

import re

import pytest

from tools import translate

EN = translate.read("en", "nodeDefs.json")
LANGUAGES = translate.languages()
# The page compiles these texts as vue-i18n messages, in which these characters mean something.
SYNTAX = set("{}@|")
# What is the same in every language: numbers, and widgets by their names.
SAME = re.compile(r"`\w+`|(?<![\w.])-?\d+(?:\.\d+)?")


def test_there_are_languages():
    assert {"ja", "zh"} <= set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_missing_and_none_is_left_over(language):
    """Each line says what to add to or take out of the phrases (docs/translating.md)."""
    assert translate.faults(EN, translate.read(language, "phrases.json")) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_locale_is_made_from_the_phrases(language):
    made = translate.translated(EN, translate.read(language, "phrases.json"))
    assert translate.read(language, "nodeDefs.json") == made, "run python -m tools.translate"


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_and_widgets_are_as_in_english(language):
    wrong = {}
    for english, words in translate.read(language, "phrases.json").items():
        lost = set(SAME.findall(english)) - set(SAME.findall(words))
        if lost or SYNTAX & set(words):
            wrong[english] = lost or "characters of the page's syntax"
    assert wrong == {}


def test_a_changed_text_is_missing_and_left_over():
    english = {"A": {"display_name": "Blend", "description": "Mixes two pictures."}}
    phrases = {"Blend": "混合", "Mixes two picture.": "混合两张图像。"}
    missing, left_over = translate.faults(english, phrases)
    assert missing == "add 'Mixes two pictures.'; it was 'Mixes two picture.'"
    assert left_over.startswith("take out 'Mixes two picture.'")
    assert translate.translated(english, phrases) == {"A": {"display_name": "混合 Blend"}}
