"""Runs that are killed, and runs in two processes."""

import os
import random
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vlm.train.run import RESULT, train

AcceleratorState = pytest.importorskip("accelerate.state").AcceleratorState
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def in_child(work):
    """Starts it in a process of its own, with everything imported; its id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


def weights(recipe):
    return load_file(Path(recipe.out) / RESULT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "more"),
    [(10, {"steps": 120}), (3, {"steps": 30, "attention": 0.01, "size": 32})],
    ids=["features", "features and attention"],
)
def test_kills_change_no_bit(recipe, z_image, tmp_path, kills, more):
    whole = recipe(every=3, out=str(tmp_path / "whole"), held_out=2, dit=str(z_image), **more)
    killed = replace(whole, out=str(tmp_path / "killed"))
    start = time.monotonic()
    train(whole)
    most = time.monotonic() - start
    draw, done = random.Random(0), 0
    while done < kills:
        child = in_child(lambda: train(killed))
        time.sleep(draw.uniform(0.1, 0.8) * most)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):  # it was through: once more from the middle
            assert status == 0
            newest = max((Path(killed.out) / "checkpoints").glob("step-*"))
            for part in newest.iterdir():
                part.unlink()
            newest.rmdir()
        done += 1
    _, status = os.waitpid(in_child(lambda: train(killed)), 0)
    assert status == 0
    left, right = weights(whole), weights(killed)
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert (Path(killed.out) / "log.jsonl").read_text() == (
        Path(whole.out) / "log.jsonl"
    ).read_text()


@pytest.mark.slow
def test_two_processes_equal_one_of_the_same_global_batch(recipe, tmp_path):
    one = recipe(steps=20, batch=8, every=20, out=str(tmp_path / "one"))
    two = replace(one, batch=4, out=str(tmp_path / "two"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def rank(number):
        # What accelerate knows of this process was found out before it was one of two.
        AcceleratorState._reset_state(reset_partial_state=True)
        os.environ |= {
            "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
        }  # fmt: skip
        train(two)

    def alone():
        train(one)

    children = [in_child(lambda number=number: rank(number)) for number in range(2)]
    children.append(in_child(alone))
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    left, right = weights(one), weights(two)
    for name in left:
        away = (left[name] - right[name]).abs().max()
        assert away <= 1e-4 * max(1.0, float(left[name].abs().max())), name
