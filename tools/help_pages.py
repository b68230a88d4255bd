"""Help pages in other languages, and which of them no longer say what the English ones say.

The last line of `web/docs/NODE/LANG.md` is a comment with a digest of each section of the English
`web/docs/NODE.md` that it was made from. A translator who has brought a page up to date takes that
line out, and `python -m tools.translate` writes it anew.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "web" / "docs"
SEEN = re.compile(r"\n*<!-- made from:((?: [0-9a-f]{8})+) -->\n*\Z")


def english_pages() -> list[Path]:
    """The English pages, one for each node."""
    return sorted(DOCS.glob("*.md"))


def page(english: Path, language: str) -> Path:
    """Where ComfyUI looks for a page in another language."""
    return english.with_suffix("") / f"{language}.md"


def sections(text: str) -> dict[str, str]:
    """A digest by heading."""
    parts = re.split(r"^(?=#+ )", text, flags=re.MULTILINE)
    made = {}
    for part in filter(str.strip, parts):
        words = " ".join(part.split())
        made[part.splitlines()[0].lstrip("# ")] = hashlib.sha256(words.encode()).hexdigest()[:8]
    return made


def without_mark(text: str) -> str:
    """A page without the comment at its end."""
    return SEEN.sub("\n", text)


def mark(text: str, english: str) -> str:
    """A page that says at its end which English page it was made from."""
    made_from = " ".join(sections(english).values())
    return f"{without_mark(text).rstrip()}\n\n<!-- made from: {made_from} -->\n"


def changed(text: str, english: str) -> list[str]:
    """Headings of the English sections that are new or other than when the page was made."""
    found = SEEN.search(text)
    made_from = found[1].split() if found else []
    now = sections(english)
    lines = [heading for heading, digest in now.items() if digest not in made_from]
    gone = len(set(made_from) - set(now.values())) - len(lines)
    return lines + ([f"{gone} that the English page no longer has"] if gone > 0 else [])


def faults(language: str) -> list[str]:
    """What a translator has to do to the pages of a language, one line each."""
    lines = []
    known = {page(english, language) for english in english_pages()}
    for english in english_pages():
        path = page(english, language)
        name = path.relative_to(DOCS.parents[1]).as_posix()
        if not path.exists():
            lines.append(f"write {name}: the help page of {english.stem}")
            continue
        sections = changed(path.read_text("utf-8"), english.read_text("utf-8"))
        if sections:
            lines.append(
                f"bring {name} up to date, and take its last line out. Changed in "
                f"{english.name}: {', '.join(sections)}"
            )
    for path in sorted(DOCS.glob(f"*/{language}.md")):
        if path not in known:
            lines.append(f"take out {path.parent.name}/{path.name}: there is no such node")
    return lines


def write_marks(language: str) -> None:
    """Marks the pages that have no mark: they are new, or were just brought up to date."""
    for english in english_pages():
        path = page(english, language)
        if path.exists() and not SEEN.search(text := path.read_text("utf-8")):
            path.write_text(mark(text, english.read_text("utf-8")), encoding="utf-8")
