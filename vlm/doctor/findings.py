"""What an examination found: facts for people and programs, and remarks in plain sentences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Remark:
    """One sentence or two about something found.

    Attributes:
        where: What it is about: a package, a family, a device, a path.
        text: What is so, and how to fix it where it is wrong.
        problem: Whether it keeps something from working; else it is worth knowing.
    """

    where: str
    text: str
    problem: bool = True


@dataclass
class Findings:
    """Facts of one part of an examination.

    Attributes:
        facts: Plain data, one dict per thing.
        remarks: In the order found.
    """

    facts: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def problem(self, where: str, text: str) -> None:
        """Adds what keeps something from working."""
        self.remarks.append(Remark(where, text))

    def note(self, where: str, text: str) -> None:
        """Adds what is worth knowing."""
        self.remarks.append(Remark(where, text, problem=False))
