"""The command line as a process: what stands on the terminal, bars, letters."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vlm
from vlm import cli
from vlm.cli import progress
from vlm.cli.output import say, show_any_letter
from vlm.report.demo_picture import SIZE, draw_picture

ROOT = Path(__file__).parents[2]


def test_the_picture_is_the_same_every_time():
    assert draw_picture().size == SIZE
    assert draw_picture().tobytes() == draw_picture().tobytes()


def test_tiny(tmp_path, capsys):
    place = tmp_path / "models" / "tiny"
    words = ["--family", "qwen2_vl", "--width", "32", "--layers", "2"]
    assert cli.main(["tiny", str(place), *words]) == 0
    assert "32 wide, 2 decoder layers" in capsys.readouterr().out
    model = vlm.load(place)
    assert model.encode("a").layer(-1).shape[-1] == 32
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert cli.main(["tiny", str(tmp_path / "mine")]) == 2
    assert "nothing was written" in capsys.readouterr().err


def test_a_bar_counts_the_steps_and_goes_away(monkeypatch, capsys):
    monkeypatch.setattr(progress, "DELAY", 0.1)
    host = progress.ProgressHost()
    host.step(1, 3)  # a step without a run draws nothing
    with host.running():
        for done in range(1, 4):
            time.sleep(0.15)
            host.step(done, 3)
    shown = capsys.readouterr().err
    assert "1/3" in shown and "2/3" in shown and not shown.split("\r")[-1].strip()
    with pytest.raises(InterruptedError), host.running():
        time.sleep(0.15)
        host.step(1, 3)
        raise InterruptedError("a run that is stopped half way")
    assert not capsys.readouterr().err.split("\r")[-1].strip()


@pytest.mark.slow
def test_as_a_process():
    def run(*words):
        command = [sys.executable, "-m", "vlm", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)

    shown = run("encode", "--help")
    assert shown.returncode == 0 and not shown.stderr
    for word in ("Examples:", "--normalize", "--alpha", "encodes the text alone", "z-image"):
        assert word in shown.stdout
    failed = run("encode", "--model", "no-such-folder", "--text", "a", "--out", "x.safetensors")
    assert failed.returncode == 2 and not failed.stdout
    assert failed.stderr.splitlines()[-1].startswith("error: There is no folder no-such-folder")
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.slow
def test_letters_that_stdout_cannot_show(tmp_path, encoding):
    command = [sys.executable, "-m", "vlm", "tiny", str(tmp_path / "日本"), "--layers", "1"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, env=environment)
    assert run.returncode == 0, run.stderr
    assert b"\\u65e5\\u672c: qwen3_vl, 64 wide" in run.stdout
    assert (tmp_path / "日本" / "model.safetensors").is_file()


def test_a_name_that_is_no_utf_8(monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", shown)
    show_any_letter()
    say("half \udce9.safetensors")
    shown.seek(0)
    assert shown.read() == "half \\udce9.safetensors\n"
