"""Writes what ComfyUI reads in other languages, and tells what a translator has to do.

    python -m tools.translate

`locales/LANG/phrases.json` holds each English text once, with its translation: of the nodes
(locales/LANG/nodeDefs.json) and of what is drawn in the page (locales/LANG/main.json). So a text
that changed in English is one that is missing and one that is left over: neither goes unnoticed.
Help pages are files of their own: tools/help_pages.py.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools import help_pages

ROOT = Path(__file__).resolve().parents[1]
LOCALES = ROOT / "locales"
ENGLISH = "en"
NAMES = ("display_name", "name")
# Where web/words.js looks in what ComfyUI merges of all packs' main.json.
PAGE = "vlmConditioning"
SAID = re.compile(r"""\bsay\(\s*'((?:[^'\\]|\\.)*)'""")


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


def page_texts() -> list[str]:
    """The texts that the scripts of `web` say: what stands in `say('...')`."""
    found = []
    for script in sorted((ROOT / "web").rglob("*.js")):
        said = SAID.findall(script.read_text(encoding="utf-8"))
        found += [text.replace("\\'", "'") for text in said]
    return list(dict.fromkeys(found))


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


def wanted() -> set[str]:
    """All that is to be translated."""
    return {text for _, text in texts(read(ENGLISH, "nodeDefs.json"))} | set(page_texts())


def faults(wanted: set[str], phrases: dict[str, str]) -> list[str]:
    """What a translator has to do to the phrases of a language, one line each."""
    left_over = [text for text in phrases if text not in wanted]
    lines = []
    for text in sorted(wanted - phrases.keys()):
        before = difflib.get_close_matches(text, left_over, n=1)
        lines.append(f"add {text!r}" + (f"; it was {before[0]!r}" if before else ""))
    lines += [f"take out {text!r}: nothing says it" for text in left_over]
    lines += [f"translate {text!r}" for text, words in phrases.items() if not words.strip()]
    return lines


def made_of(language: str) -> dict[str, dict[str, Any]]:
    """The files that ComfyUI reads in a language, by name."""
    phrases = read(language, "phrases.json")
    said = {text: phrases[text] for text in page_texts() if text in phrases}
    english = read(ENGLISH, "nodeDefs.json")
    return {"nodeDefs.json": translated(english, phrases), "main.json": {PAGE: said}}


def main() -> int:
    """Writes every language, and tells what is missing."""
    wrong = 0
    for language in languages():
        for name, content in made_of(language).items():
            text = json.dumps(content, indent=2, ensure_ascii=False)
            (LOCALES / language / name).write_text(text + "\n", encoding="utf-8")
        help_pages.write_marks(language)
        lines = faults(wanted(), read(language, "phrases.json")) + help_pages.faults(language)
        for line in lines:
            print(f"{language}: {line}")
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
