"""Writes docs/targets.md from what the tests of the targets found.

TARGET_RESULTS=found.jsonl python -m pytest tests/targets tests/host/test_inside_rows.py
python -m tools.targets_page found.jsonl
"""

import json
import sys
from pathlib import Path

from vlm.targets import TARGETS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "targets.md"
HEAD = """# Targets and what they were compared with

Written by `python -m tools.targets_page` from what the tests found; do not edit.

Weights are tiny and random. Prompts have words, none, blanks, a thousand tokens; pictures have five
sizes and shapes. Beside ComfyUI's nodes, through VLM From CLIP with `preprocessing` comfyui, 0
means that every bit of tensor and options is the same. Beside diffusers, in float32 and with
pictures that neither side resizes, it is the largest difference over the largest value. The node
of Qwen-Image 2.1 is newer than the ComfyUI that the tests run: `nodes_qwen.py` and
`qwen_image21.py` of ComfyUI's commit ed26919 were laid into 0.33.0 for these rows.

ComfyUI's prompt syntax (`\\(`, `\\)`, `embedding:name`) gives the same bits in every row that
ComfyUI has, with one exception: vectors of another width are refused, where ComfyUI warns and puts
masked pads behind the prompt.

| target | text encoder | beside | version | pictures | difference | options that are the same |
|---|---|---|---|---|---|---|
"""
NOTHING = "see tests/vlm/test_target_parity.py"


def rows_of(found: list[dict]) -> list[str]:
    """The table: a row for each target and what it was compared with."""
    lines = []
    for name, target in TARGETS.items():
        ours = [one for one in found if one["target"] == name]
        oracles = sorted({(one["oracle"], one["version"]) for one in ours})
        for oracle, version in oracles or [(NOTHING, "")]:
            same = [one for one in ours if one["oracle"] == oracle]
            cells = (
                f"`{name}`",
                target.encoder,
                oracle,
                version,
                ", ".join(map(str, sorted({one["pictures"] for one in same}))),
                f"{max(one['difference'] for one in same):.0e}".replace("0e+00", "0")
                if same
                else "",
                ", ".join(f"`{key}`" for key in sorted({k for one in same for k in one["keys"]})),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def sources() -> list[str]:
    """Where each row is from, and what it says of pictures and words."""
    lines = ["", "## Where the rows are from", ""]
    for name, target in TARGETS.items():
        said = [target.source, target.about_pictures, target.about_quotes, target.about_video]
        lines.append(f"- `{name}`: " + " ".join(f"{one.rstrip('.')}." for one in said if one))
    return lines


def main(file: str) -> None:
    """Reads what was found, and writes the page."""
    text = Path(file).read_text(encoding="utf-8")
    found = [json.loads(line) for line in text.splitlines()]
    lines = [*rows_of(found), *sources()]
    PAGE.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{PAGE.name}: {len(found)} comparisons of {len(TARGETS)} targets")


if __name__ == "__main__":
    main(sys.argv[1])
