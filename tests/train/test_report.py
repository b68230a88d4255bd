"""The report of a run: what is drawn is what the log and the connector's file say."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

import vlm
from vlm.train import report, tracking
from vlm.train.recipe import TrainRecipe
from vlm.train.run import train

pytest.importorskip("accelerate")
pytest.importorskip("matplotlib")
LOG = [{"step": n, "loss": 1.0 / n, "norm": 0.5 * n, "lr": 0.1} for n in range(1, 101)]


@pytest.fixture
def drawn(monkeypatch):
    """The panels of reports, by their titles."""
    panels = {}
    draw = report.draw

    def keep(title, notes, rows):
        panels.update({panel.title: panel for row in rows for panel in row})
        return draw(title, notes, rows)

    monkeypatch.setattr(report, "draw", keep)
    return panels


def lines(panel):
    """What a panel draws as lines: by label, [x, y]."""
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    panel.draw(axes)
    return {line.get_label(): line.get_data() for line in axes.lines}


def test_a_resumed_run_draws_all_its_updates(recipe, drawn):
    given = recipe(steps=4, report=True)
    train(given)
    done = train(replace(given, steps=4, report=True))
    assert done.resumed_at == 4
    x, y = lines(drawn["Loss on what it learns from"])["loss"]
    assert list(x) == [1, 2, 3, 4] and list(y) == [row["loss"] for row in done.log]
    held = lines(drawn["Loss on captions held out"])
    assert list(held["held out"][0]) == [2, 4]
    assert list(held["held out"][1]) == [row["held_out"] for row in done.log if "held_out" in row]
    assert held["the best constant"][1][0] == done.log[-1]["constant"]
    with Image.open(done.file.parent / report.REPORT) as picture:
        assert picture.width == 1600 and picture.height > 1000


@pytest.mark.parametrize("kind", ["linear", "lap", "alignnet-cnn"])
def test_states_and_weights_are_those_of_the_file(recipe, place, drawn, monkeypatch, kind):
    more = {"layers": "3"} if kind == "linear" else {"layers": "1,3", "heads": 4}
    given = recipe(connector=kind, steps=2, report=True, hidden=64, **more)
    given = replace(given, layers="auto") if kind.startswith("align") else given
    seen = {}
    panels = report.dimension_panels

    def keep(series, stats):
        seen["series"], seen["stats"] = series[0], stats
        return panels(series, stats)

    monkeypatch.setattr(report, "dimension_panels", keep)
    done = train(given)
    connector = vlm.load_connector(done.file)
    model = vlm.load(place / "vlm", prefix_cache_mb=0)
    words = (place / "captions.txt").read_text().splitlines()[: report.MOST_CAPTIONS]
    tokens = torch.cat(
        [connector(model.encode(caption, target="z-image")).context[0] for caption in words]
    )
    assert seen["series"].count <= len(tokens) and seen["stats"].count >= len(words)
    found, want = seen["series"], report.make_series("ours", tokens, "black")
    assert torch.allclose(found.mean, want.mean, atol=1e-4)
    assert torch.allclose(found.std, want.std, rtol=1e-3)
    assert (report.TAKES in drawn) == (kind != "linear")


def test_lines_are_the_numbers_of_the_log():
    found = lines(report.pace_panel(LOG, clip=1.0))
    assert list(found["norm of the gradient"][1]) == [row["norm"] for row in LOG]
    assert "cut in 98 of 100 updates" in report.pace_panel(LOG, clip=1.0).here
    assert "cut in 0 of 100" in report.pace_panel(LOG, clip=0.0).here
    assert report.held_out_panels(LOG) == []
    alone = report.held_out_panels([{**LOG[0], "held_out": 2.0}])[0]
    assert "constant" not in alone.here + alone.good


def test_several_losses_are_lines_of_their_own():
    log = [{**row, "words": 0.5, "attention": 300.0} for row in LOG]
    assert {"loss", "words", "attention"} <= lines(report.loss_panel(log)).keys()
    assert {"words"}.isdisjoint(lines(report.loss_panel([{**r, "words": 1.0} for r in LOG])))


def test_a_term_that_is_not_in_every_update_has_a_line_of_its_own():
    log = [{**row, "words": 0.5} | ({"pads": 2.0} if row["step"] % 3 == 0 else {}) for row in LOG]
    x, y = lines(report.loss_panel(log))["pads"]
    assert list(x) == list(range(3, 100, 3)) and set(y) == {2.0}


def test_the_thick_line_is_a_mean_of_what_came_before():
    values = [float(n % 7) for n in range(200)]
    found = report.smoothed(values)
    assert found[0] == values[0] and found[2] == sum(values[:3]) / 3
    assert found[150] == pytest.approx(sum(values[147:151]) / 4)
    assert report.smoothed([3.0]) == [3.0]


def test_without_matplotlib_nothing_begins(recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(report, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install matplotlib.*set report to false"):
        train(recipe(report=True))
    assert not (tmp_path / "run").exists()


# --- TensorBoard ---------------------------------------------------------------------------------


def scalars(folder):
    """What TensorBoard reads: by name, {step: value}."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for file in sorted(folder.rglob("events.out.*")):
        events = EventAccumulator(str(file)).Reload()
        for name in events.Tags()["scalars"]:
            found.setdefault(name, {}).update({e.step: e.value for e in events.Scalars(name)})
    return found


def test_tensorboard_has_what_the_log_has(recipe):
    pytest.importorskip("tensorboard")
    given = recipe(steps=2, tracker="tensorboard")
    train(replace(given, tracker=""))
    done = train(replace(given, steps=2))  # it may be turned on in the middle
    assert scalars(done.file.parent) == {}
    done = train(recipe(steps=4, tracker="tensorboard", out=str(done.file.parent.parent / "two")))
    found = scalars(done.file.parent)
    for name in ("loss", "norm", "lr", "held_out", "constant"):
        rows = {row["step"]: row[name] for row in done.log if name in row}
        assert found[name] == pytest.approx(rows)


def test_a_tracker_that_is_not_installed(recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install tensorboard.*leave tracker empty"):
        train(recipe(tracker="tensorboard"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="tracker is 'wandb', expected one of tensorboard"):
        TrainRecipe(tracker="wandb")


# --- going on from a file ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ({"connector": "linear"}, {"connector": "lap", "layers": "1,3"}, "kind is linear or mlp"),
        ({"connector": "lap", "layers": "1,3"}, {"layers": "1,2,3"}, "layers is 2, .* has 3"),
        ({"connector": "alignnet-cnn", "layers": "auto"}, {"connector": "mlp"}, "is alignnet"),
    ],
)
def test_a_start_that_does_not_fit(recipe, tmp_path, first, second, says):
    sizes = {"heads": 4, "hidden": 64}
    done = train(recipe(steps=1, out=str(tmp_path / "first"), **first, **sizes))
    with pytest.raises(ValueError, match=rf"start is .*{says}.*leave start empty"):
        train(recipe(start=str(done.file), out=str(tmp_path / "second"), **first | second, **sizes))


def test_a_start_of_other_widths(recipe, tmp_path):
    wrong = tmp_path / "wrong.safetensors"
    from safetensors.torch import save_file

    save_file({"linear.weight": torch.zeros(64, 32)}, wrong)
    with pytest.raises(ValueError, match="width of what it reads is 32, this recipe has 64"):
        train(recipe(connector="linear", start=str(wrong)))
