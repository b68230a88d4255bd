"""Runs of features recipes on toys: what they learn, what their file gives, how they go on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import vlm
from vlm.train import run as runs
from vlm.train.reader import Reader
from vlm.train.run import train

pytest.importorskip("accelerate")
KINDS = {
    "linear": {},
    "linear-norm": {},
    "norm-linear": {},
    "mlp": {"hidden": 128},
    "lap": {"layers": "1,3", "heads": 4, "lr": 3e-3},
    "alignnet-cnn": {"layers": "auto", "hidden": 64},
    "alignnet-scale": {"layers": "auto", "hidden": 64},
    "alignnet-mean": {"layers": "auto", "hidden": 64},
}


def weights(folder):
    return load_file(Path(folder) / runs.RESULT)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


# --- what it learns ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_half_of_what_the_best_constant_costs(recipe, kind):
    """On captions held out, tokens one to one; the constant knows them, the connector does not."""
    given = recipe(connector=kind, steps=150, batch=8, every=150, warmup=10, **KINDS[kind])
    last = train(given).log[-1]
    assert last["held_out"] <= 0.5 * last["constant"]


# --- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_gives_the_bits_of_the_training(recipe, place, monkeypatch, kind):
    """Through what Connector Apply and LAP Pool call, from the hidden states of a prompt."""
    trained = {}
    write = runs.write_connector

    def keep(student, *rest):
        trained["student"] = student
        write(student, *rest)

    monkeypatch.setattr(runs, "write_connector", keep)
    done = train(recipe(connector=kind, steps=2, **KINDS[kind]))
    given = recipe(connector=kind, **KINDS[kind])
    model = vlm.load(place / "vlm", prefix_cache_mb=0)
    caption = "a caption it has never seen"
    with torch.no_grad():
        ((context, pooled),) = trained["student"]([Reader(model, given)(caption)])
    connector = vlm.load_connector(done.file)
    output = connector(model.encode(caption, target="z-image"))
    assert torch.equal(output.context[0], context)
    assert (pooled is None) == (output.pooled is None)
    assert connector.made_for == model.name or kind.startswith("alignnet")
    if kind == "lap":
        pooled_tokens = vlm.lap_pool(model.encode(caption, target="z-image"), connector.module)
        assert torch.equal(pooled_tokens.states[0], context)


def test_the_file_says_what_it_was_made_from(recipe):
    done = train(recipe(steps=2, licence="CC0 captions"))
    with safe_open(done.file, "pt") as file:
        said = file.metadata()
    assert said["vlm"] == "vlm" and said["layers"] == "3" and said["target"] == "Z-Image"
    assert said["teacher"] == "tiny" and said["steps"] == "2" and said["licence"] == "CC0 captions"
    assert len(said["data"]) == 64
    assert json.loads(said["held_out"])["held_out"] == done.log[-1]["held_out"]
    assert json.loads(said["recipe"])["captions"] == "captions.txt"
    assert "/" not in said["recipe"]
    log = [json.loads(line) for line in (done.file.parent / runs.LOG).read_text().splitlines()]
    assert log == done.log and [row["step"] for row in log] == [1, 2]


# --- how it goes on ------------------------------------------------------------------------------


class Stopped(Exception):
    """Instead of a kill."""


def stop_at(step):
    def tell(row):
        if row["step"] == step:
            raise Stopped

    return tell


@pytest.mark.parametrize(
    "more",
    [{}, {"stream": True, "buffer": 20}, {"accumulate": 3, "batch": 2, "schedule": "linear"}],
)
def test_stopped_and_started_again_it_ends_with_the_same_bits(recipe, tmp_path, more):
    """Across epochs, from checkpoints behind which it had already gone on."""
    whole = recipe(
        steps=30, batch=more.pop("batch", 8), out=str(tmp_path / "whole"), every=4, **more
    )
    assert train(whole).resumed_at == 0
    parts = replace(whole, out=str(tmp_path / "parts"))
    for step in (3, 15, 18):
        with pytest.raises(Stopped):
            train(parts, stop_at(step))
    done = train(parts)
    assert done.resumed_at == 16
    assert same(weights(whole.out), weights(parts.out))
    log = (Path(whole.out) / runs.LOG).read_text()
    assert (Path(parts.out) / runs.LOG).read_text() == log


def test_a_cache_changes_no_bit(recipe, tmp_path):
    with_cache, without = (
        recipe(out=str(tmp_path / name), cache=cache, held_out=4)
        for name, cache in (("a", str(tmp_path / "cache")), ("b", ""))
    )
    train(with_cache)
    assert any((tmp_path / "cache").iterdir())
    again = replace(with_cache, out=str(tmp_path / "c"))
    for each in (without, again):
        train(each)
    assert same(weights(with_cache.out), weights(without.out))
    assert same(weights(with_cache.out), weights(again.out))


def test_a_run_that_is_done_is_only_written_again(recipe):
    done = train(recipe())
    before = weights(done.file.parent)
    done.file.unlink()
    told = []
    assert train(recipe(), told.append).resumed_at == 6
    assert told == [] and same(before, weights(done.file.parent))


def test_old_checkpoints_go(recipe):
    folder = Path(train(recipe(keep=2)).file).parent / "checkpoints"
    assert sorted(each.name for each in folder.iterdir()) == ["step-00000004", "step-00000006"]


def test_it_goes_on_from_a_connector(recipe, tmp_path):
    first = train(recipe(connector="norm-linear", steps=40, batch=8, every=40))
    more = train(recipe(start=str(first.file), out=str(tmp_path / "more"), lr=1e-4, steps=2))
    assert more.log[0]["loss"] < 0.5 * first.log[0]["loss"]


# --- what is refused -----------------------------------------------------------------------------


def test_nan_stops_with_step_and_batch_and_keeps_the_checkpoint(recipe, monkeypatch):
    given = recipe(steps=20)

    def break_at(row):
        if row["step"] == 5:
            monkeypatch.setattr(runs.Features, "__call__", nan)

    def nan(self, item, condition):
        return condition.context.sum() * float("nan"), {}

    with pytest.raises(ValueError) as error:
        train(given, break_at)
    said = str(error.value)
    assert "The loss is nan in step 6, whose batch is caption" in said
    assert "of captions.txt" in said and "step-00000004 is kept" in said
    monkeypatch.undo()
    assert train(given).resumed_at == 4


def test_a_rate_that_is_too_high_stops_in_words(recipe):
    with pytest.raises(ValueError, match=r"is (nan|inf) in step \d+, whose batch is caption"):
        train(recipe(connector="mlp", lr=1e29, steps=20, warmup=0, clip=0.0))


def test_a_full_disk_is_told_and_nothing_is_lost(recipe, monkeypatch):
    given = recipe(steps=8)
    from accelerate import Accelerator

    save, calls = Accelerator.save_state, []

    def full(self, folder, *args, **more):
        calls.append(folder)
        if len(calls) == 3:
            Path(folder).mkdir()
            (Path(folder) / "model.safetensors").write_bytes(b"half")
            raise OSError(28, "No space left on device")
        return save(self, folder, *args, **more)

    monkeypatch.setattr(Accelerator, "save_state", full)
    with pytest.raises(
        OSError, match=r"step-00000006 could not be written.*step-00000004 is still"
    ):
        train(given)
    assert [each.name for each in (Path(given.out) / "checkpoints").iterdir()
            if each.name.startswith(".")] == []  # fmt: skip
    assert train(given).resumed_at == 4


def test_another_recipe_in_the_folder_is_refused(recipe):
    train(recipe(steps=2))
    with pytest.raises(ValueError, match="a run whose lr is 0.01, now it is 0.5"):
        train(recipe(steps=2, lr=0.5))
    train(recipe(steps=2, every=1, keep=5))


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"captions": ""}, ValueError, "captions is empty"),
        ({"captions": "nowhere.txt"}, FileNotFoundError, "no captions at nowhere.txt"),
        ({"held_out": 118}, ValueError, "holds 120 captions; 118 are held out and a batch takes 4"),
        ({"vlm": "nowhere"}, FileNotFoundError, "nowhere"),
        ({"teacher": "nowhere"}, FileNotFoundError, r"no folder nowhere \(teacher\)"),
        ({"layers": "9"}, ValueError, "9"),
        ({"layers": "1,2", "connector": "alignnet-cnn"}, ValueError, "AlignNet reads all of them"),
        ({"connector": "lap", "layers": "1,3", "heads": 5}, ValueError, "5 heads do not divide"),
        ({"start": "nowhere.safetensors"}, FileNotFoundError, "nowhere.safetensors"),
    ],
)
def test_refuses(recipe, changes, kind, said):
    with pytest.raises(kind, match=said):
        train(recipe(**changes))


def test_a_recipe_that_cannot_begin_is_no_run(recipe):
    with pytest.raises(ValueError):
        train(recipe(layers="9"))
    assert train(recipe(steps=1)).log


def test_a_teacher_of_another_width_is_refused(recipe, place):
    with pytest.raises(ValueError, match="vlm gives 64 dimensions, Z-Image reads 2560. Name Qwen3"):
        train(recipe(teacher=str(place / "vlm")))


def test_a_cut_parquet_file_is_told(recipe, tmp_path):
    file = tmp_path / "captions.parquet"
    file.write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(ValueError, match="captions.parquet cannot be read as parquet"):
        train(recipe(captions=str(file)))
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
