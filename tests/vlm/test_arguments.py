"""Paths that lead nowhere, amounts of memory, what the command line and the log repeat."""

import logging
import zipfile

import numpy as np
import pytest
import torch

import vlm
from vlm.arguments import checked, whole
from vlm.cli import main
from vlm.files.names import path_problem
from vlm.files.units import in_bytes
from vlm.logger import LOG


@pytest.mark.parametrize("text", ["", "-1", "1.0", "²", "٣", "1_0", " 1", "9" * 19, "9" * 5000])
def test_digits_that_count_nothing(text):
    assert whole(text) is None
    assert (whole("007"), whole("9" * 18)) == (7, 10**18 - 1)


@pytest.mark.parametrize("megabytes", [1e308, float("inf"), 3.4e38, 10**400])
def test_a_bound_past_every_memory_bounds_nothing(megabytes):
    assert in_bytes(megabytes) >= 2**60
    assert (in_bytes(0), in_bytes(0.5), in_bytes(512)) == (0, 2**19, 2**29)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("\ud800", "half a letter"),
        ("x" * 256, "too long"),
        ("é" * 128, "too long"),
        ("a/" * 2049, "too long"),
        ("x" * 255, None),
        ("a/" * 2047, None),
        ("../家/b c.png", None),
        ("", None),
    ],
)
def test_paths_that_lead_nowhere(path, words):
    wrong = path_problem(path)
    assert wrong is None if words is None else words in wrong


@pytest.mark.parametrize(
    "arguments",
    [
        ("encode", "--model", "x" * 5000, "--text", "a", "--out", "a.safetensors"),
        ("encode", "--model", "tiny", "--image", "x" * 5000, "--out", "a.safetensors"),
        ("encode", "--model", "tiny", "--text-file", "x" * 5000, "--out", "a.safetensors"),
        (
            "encode",
            "--model",
            "tiny",
            "--text",
            "a",
            "--stats",
            "x" * 5000,
            "--out",
            "a.safetensors",
        ),
        ("encode", "--model", "tiny", "--text", "a", "--out", "x" * 5000),
        ("encode", "--model", "tiny", "--jobs", "x" * 5000, "--out", "a"),
        ("encode", "--model", "tiny", "--folder", "x" * 5000, "--out", "a"),
        ("encode", "--model", "a\nb\x1b[31m", "--text", "a", "--out", "a.safetensors"),
        ("convert", "x" * 5000, "b.safetensors"),
        ("convert", "a\x1b[31m", "b.safetensors"),
        ("tiny", "x" * 5000),
        ("train", "x" * 5000 + ".toml"),
        ("evaluate", "--cases", "x" * 5000, "--results", "x" * 5000),
    ],
)
def test_the_command_line_says_so_in_a_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as ended:  # the parser's own
        status = ended.code
    said = capsys.readouterr().err
    assert status == 2 and len(said) < 3000
    line = said.strip().split("\n")[-1]
    assert line.isprintable() and len(line) < 700, line
    assert "Traceback" not in said and "[Errno" not in said


def test_a_name_starts_no_line_of_a_log(caplog):
    with caplog.at_level(logging.WARNING, LOG.name):
        LOG.warning("%s is left out: %s, %d", "a\nWARNING all is well\x1b[2J", OSError("b\nc"), 3)
    assert caplog.messages == [r"a\nWARNING all is well\x1b[2J is left out: b\nc, 3"]


def test_an_archive_quotes_itself_in_a_line(tmp_path):
    """The names in it are anybody's."""
    from vlm import load_stats

    file = tmp_path / "stats.npz"
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(9):
            archive.writestr(f"{number}\x1b[31m{'x' * 3000}.npy", b"")
    with pytest.raises(ValueError, match="holds no statistics but") as caught:
        load_stats(file)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700


def test_numbers_of_numpy_come_as_pythons_own():
    """`isinstance(x, int)` inside a function does not know numpy's."""

    @checked
    def kinds(a: int, b: float | list[float], *more: float, c: int | None = None) -> list[type]:
        return [type(value) for value in (a, b, c, *more)]

    numbers = kinds(np.int64(3), np.float32(0.5), np.float64(1), c=np.uint8(7))
    assert numbers == [int, float, int, float]
    tokens = vlm.Tokens(torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0)))
    half = vlm.blend(tokens, tokens, np.float32(0.5))
    assert torch.equal(half.states, vlm.blend(tokens, tokens, 0.5).states)
    with pytest.raises(ValueError, match="goes from 0 to 1, this is 3"):
        vlm.blend(tokens, tokens, np.int64(3))
