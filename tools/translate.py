"""Writes locales/LANG/nodeDefs.json from the English one and the phrases of each language.

    python -m tools.translate

`locales/LANG/phrases.json` holds each English text once, with its translation. So a text that
changed in English is one that is missing and one that is left over: neither goes unnoticed.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOCALES = Path(__file__).resolve().parents[1] / "locales"
ENGLISH = "en"
NAMES = ("display_name", "name")


def languages() -> list[str]:
    """Languages that are made from phrases."""
    return sorted(file.parent.name for file in LOCALES.glob("*/phrases.json"))


def read(language: str, file: str) -> dict[str, Any]:
    """A JSON file of a language."""
    return json.loads((LOCALES / language / file).read_text(encoding="utf-8"))


def texts(part: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is to be translated, with the key it stands under."""
    for key, value in part.items():
        if isinstance(value, str):
            yield key, value
        else:
            yield from texts(value)


def translated(part: dict[str, Any], phrases: dict[str, str]) -> dict[str, Any]:
    """The same in another language; what has no translation is left out and stays English.

    Names keep their English one behind them: errors, help and other people's words speak of it.
    """
    made: dict[str, Any] = {}
    for key, value in part.items():
        if not isinstance(value, str):
            made[key] = translated(value, phrases)
        elif value in phrases:
            words = phrases[value]
            plain = key not in NAMES or value.casefold() in words.casefold()
            made[key] = words if plain else f"{words} {value}"
    return made


def faults(english: dict[str, Any], phrases: dict[str, str]) -> list[str]:
    """What a translator has to do, one line each."""
    wanted = {text for _, text in texts(english)}
    left_over = [text for text in phrases if text not in wanted]
    lines = []
    for text in sorted(wanted - phrases.keys()):
        before = difflib.get_close_matches(text, left_over, n=1)
        lines.append(f"add {text!r}" + (f"; it was {before[0]!r}" if before else ""))
    lines += [f"take out {text!r}: no node says it" for text in left_over]
    lines += [f"translate {text!r}" for text, words in phrases.items() if not words.strip()]
    return lines


def main() -> int:
    """Writes every language, and tells what is missing."""
    english = read(ENGLISH, "nodeDefs.json")
    wrong = 0
    for language in languages():
        phrases = read(language, "phrases.json")
        text = json.dumps(translated(english, phrases), indent=2, ensure_ascii=False)
        (LOCALES / language / "nodeDefs.json").write_text(text + "\n", encoding="utf-8")
        for line in faults(english, phrases):
            print(f"{language}: {line}")
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
