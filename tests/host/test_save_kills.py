"""SIGKILL to a server while Save VLM Conditioning writes: no broken file is there for Load to take.

`KILLS=20` kills it that often, as docs/reliability.md tells of.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from graphs import Prompt, node
from pack_graphs import conditioning, dump

from vlm.conditioning.file import load_conditioning

KILLS = int(os.environ.get("KILLS", "1"))
MORE = 5  # where the file was whole before the kill came
TOKENS, WIDTH = 4096, 4096  # 64 MB: time to be killed in

pytestmark = [
    pytest.mark.timeout(600 + 90 * KILLS),
    pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL"),
]


def saving(text: str, tokens: int = TOKENS) -> Prompt:
    save = node(
        "VLMCSaveConditioning", conditioning=["words", 0], name="style", if_exists="overwrite"
    )
    return {"words": conditioning(text, WIDTH, tokens), "file": save}


def part_of(folder: Path, seconds: float = 60) -> Path | None:
    """The file that is being written; None = it was written before it was seen."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for name in os.listdir(folder):
            if name.endswith(".part"):
                return folder / name
        time.sleep(0.001)
    return None


def test_a_server_killed_in_mid_save_leaves_no_broken_file(start_comfy):
    host = start_comfy("--cache-none", fresh=True)
    folder = host.base / "output" / "vlm_conditioning"
    host.run(saving("the first", 4))
    draw, in_mid_save = random.Random(0), 0
    for number in range(KILLS + MORE):
        if number >= KILLS and in_mid_save > KILLS // 2:
            break
        host.queue(saving(f"kill {number}"))
        part = part_of(folder)
        assert part is not None
        time.sleep(draw.uniform(0, 0.05))
        os.killpg(host.process.pid, signal.SIGKILL)
        host.process.wait(timeout=60)
        in_mid_save += part.exists()
        left = sorted(file.name for file in folder.glob("*.safetensors"))
        assert left == ["style.safetensors"]
        (entry,) = load_conditioning(folder / "style.safetensors")  # the old one or the new one
        assert entry.tokens.n in (4, TOKENS)
        host.start()
        listed = host.object_info("VLMCLoadConditioning")["input"]["required"]["file"][1]["options"]
        assert [name for name in listed if name.startswith("output/")] == [
            "output/style.safetensors"
        ]
        load = node("VLMCLoadConditioning", file="output/style.safetensors")
        assert host.run({"load": load, "out": dump("load")}).dump("out")
        host.run(saving(f"after kill {number}", 4))
        assert os.listdir(folder) == ["style.safetensors"]  # and no part of the killed one
    host.stop()
    assert in_mid_save > KILLS // 2, f"only {in_mid_save} of {KILLS + MORE} came in mid-save"
