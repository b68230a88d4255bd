"""jobs.jsonl of strangers, and pictures beside it: one bad job harms no good one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import vlm
from vlm.batch.encode import encode_shard
from vlm.batch.jobs import KEYS, Provenance, read_jobs
from vlm.batch.recipe import CHOICES, Recipe
from vlm.batch.shards import cut

from ..case import Case, Make, line_of
from ..draw import Draw, write_text
from ..judge import GOOD, Refused, judge_value, what_is_no_sentence
from .models import picture, tiny_model

GOOD_JOB = {"id": "good one", "text": "a boat", "image": ["a.png"]}
FILES = (
    "a.png",
    "text.txt",
    "b.png",
    "none.png",
    "../bait.png",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a\x00b",
)
FILES += (
    "~/x",
    "pipe",
    "link.png",
    "../../../../etc/passwd",
    "a.png/b",
    "A.PNG",
    "stats.safetensors",
)


# What is encoded takes time by its length, and that is no fault.
LONG, MOST_LETTERS = ("text", "system", "edit", "reference"), 1000


def prepare(base: Path) -> Make:
    """A model that makes the jobs."""
    model = tiny_model(base)

    def make(draw: Draw, room: Path) -> Case:
        jobs = room / "jobs"
        jobs.mkdir()
        picture().save(jobs / "a.png")
        (jobs / "b.png").write_bytes(draw.cut((jobs / "a.png").read_bytes()))
        write_text(jobs / "text.txt", draw.text()[:MOST_LETTERS])
        (jobs / "link.png").symlink_to("/etc/passwd")
        lines = [
            json.dumps(GOOD_JOB),
            *(_line(draw, number) for number in range(draw.one(1, 1, 2))),
        ]
        write_text(jobs / "jobs.jsonl", "\n".join(lines))
        return Case(line_of(*lines[1:]), lambda: _use(model, jobs / "jobs.jsonl", room / "out"))

    return make


def _line(draw: Draw, number: int) -> str:
    ways: dict[str, Any] = {
        "id": lambda: draw.one(draw.text(), "con", "good one", "a" * 300, 5),
        "image": lambda: draw.one(draw.choice(FILES), [draw.choice(FILES)] * 2, draw.text()),
        "text_file": lambda: draw.choice(FILES),
        "system_file": lambda: draw.choice(FILES),
        "video": lambda: draw.choice(FILES),
        "stats": lambda: draw.choice(FILES),
        "layers": lambda: draw.one(-1, [0, 1], "auto", draw.text(), draw.number()),
        "text": lambda: draw.words()[:1000],
        "fps": draw.number,
        "alpha": lambda: draw.one(0, 0.3, 1, draw.number()),
        "max_pixels": lambda: draw.one(4096, draw.whole()),
        "no_final_norm": lambda: draw.one(True, False),
        **{name: lambda name=name: draw.choice(list(CHOICES[name])) for name in CHOICES},
    }
    job: dict[str, Any] = {"id": f"job {number}", "text": "a tree"}
    for key in draw.sample([key for key in KEYS if key != "id"], draw.one(1, 1, 2, 3)):
        job[key] = ways[key]() if key in ways and draw.chance(0.8) else draw.value()
    job |= {key: job[key][:MOST_LETTERS] for key in LONG if isinstance(job.get(key), str)}
    if draw.chance(0.15):
        job["id"] = ways["id"]()
    return draw.json_text(job) if draw.chance(0.2) else json.dumps(job)


def _use(model: Any, file: Path, out: Path) -> Any:
    """As the command does it: all lines are checked, then each job is made or recorded."""
    maker = Provenance("tiny", "auto")
    jobs = read_jobs(file, Recipe(layers="-2"), maker)
    outcomes = [one for shard in cut(jobs, out, 2) for one in encode_shard(model, shard, maker)]
    good = next((one for one in outcomes if one.job.id == GOOD_JOB["id"]), None)
    if good is None or good.error:
        raise AssertionError(f"the good job was not made: {good and good.error}")
    for made in out.rglob("*.safetensors"):
        verdict = judge_value(vlm.load_conditioning(made))
        if verdict.kind != GOOD:
            return vlm.load_conditioning(made)
    for bad in (one.error for one in outcomes if one.error):
        if what_is_no_sentence(bad) or bad.split(":")[0].endswith("Error"):
            raise AssertionError(f"a job's error is no sentence: {bad[:300]}")
    if any(one.error for one in outcomes):
        raise Refused(next(one.error for one in outcomes if one.error))
    return None
