"""Pairing, intervals, and `python -m vlm evaluate` from folders to tables, JSON and pictures."""

import json
import math

import numpy as np
import pytest
from colours import COLOURS, picture
from PIL import Image
from safetensors.torch import load_file, save_file

from vlm.cli import main
from vlm.evaluate.cases import Case, list_cases, read_cases
from vlm.evaluate.intervals import bootstrap
from vlm.evaluate.results import find_results


def run(place, *more, results=("good",)):
    """The command's exit status on the folders of the fixture."""
    folders = ["--references", str(place / "references"), "--prompts", str(place / "prompts")]
    named = [f"{name}={place / name}" for name in results]
    return main(["evaluate", *named, *folders, "--device", "cpu", *map(str, more)])


def numbers(place, models, *more, results=("good",)):
    """What --json has."""
    file = place / "numbers.json"
    given = ["--clip", models["clip"], "--dino", models["dino"], "--json", file]
    assert run(place, *given, *more, results=results) == 0
    return json.loads(file.read_text(encoding="utf-8"), parse_constant=pytest.fail)


def write_lines(file, *lines):
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


# --- what a person wants of it -------------------------------------------------------------------


def test_shuffled_results_are_worse(place, models, capsys):
    found = numbers(place, models, results=("good", "shuffled"))
    good, shuffled = found["settings"]["good"], found["settings"]["shuffled"]
    for metric in ("CLIP-I", "CLIP-T", "DINO"):
        assert good[metric]["mean"] > shuffled[metric]["mean"] + 0.05, metric
    for each in found["differences"]:
        if each["metric"] != "SSIM":  # of grain on a plain ground: structure is not colour
            assert each["results"] == 12 and each["cases"] == 6
            assert each["high"] < 0, each
    said = capsys.readouterr().out
    assert "minus good" in said and "*" in said


def test_results_that_are_the_references_are_1(place, models):
    for name in COLOURS:
        picture(name).save(place / "good" / f"{name}.png")
    (means,) = numbers(place, models, results=("good",))["settings"].values()
    assert means["CLIP-I"]["mean"] > 0.9
    for file in (place / "good").glob("*_*.png"):
        file.unlink()
    (means,) = numbers(place, models, results=("good",))["settings"].values()
    for metric in ("SSIM", "CLIP-I", "DINO"):
        assert means[metric]["mean"] == pytest.approx(1, abs=1e-5)
        assert means[metric]["low"] == pytest.approx(1, abs=1e-5)


def test_pictures_are_written(place, models):
    out = place / "report"
    numbers(place, models, "--out", out, "--show", "2", results=("good", "shuffled"))
    assert Image.open(out / "plots.png").width == 1600
    best, worst = (Image.open(out / f"{name}.png") for name in ("best", "worst"))
    assert best.size[0] >= 3 * 32 and np.asarray(best).std() > 1
    assert np.asarray(best).tobytes() != np.asarray(worst).tobytes()


def test_the_same_seed_gives_the_same_numbers(place, models):
    first = numbers(place, models, "--seed", 3)
    assert numbers(place, models, "--seed", 3) == first
    assert numbers(place, models, "--seed", 4)["settings"] != first["settings"]


# --- intervals -----------------------------------------------------------------------------------


def test_pairs_see_what_two_means_do_not():
    """A gain of 0.05 among prompts that differ by 1: clear in pairs, hidden in two means."""
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 1, 30)
    before = {str(i): [hard[i]] for i in range(30)}
    after = {str(i): [hard[i] + 0.05 + rng.normal(0, 0.03)] for i in range(30)}
    a, b = bootstrap(before), bootstrap(after)
    assert a.low < b.mean < a.high
    paired = bootstrap({key: [after[key][0] - before[key][0]] for key in before})
    assert paired.is_clear and 0.03 < paired.low < paired.high < 0.07


def test_the_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = bootstrap({str(i): [value] for i, value in enumerate(values)})
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert [found.low, found.high] == pytest.approx(
        [found.mean - half, found.mean + half], abs=0.03
    )


def test_seeds_of_one_prompt_are_no_new_evidence():
    values = dict(enumerate(np.random.default_rng(2).normal(0, 1, 20)))
    once = bootstrap({str(key): [value] for key, value in values.items()})
    often = bootstrap({str(key): [value] * 50 for key, value in values.items()})
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_one_case_has_no_interval():
    assert bootstrap({"boat": [0.5, 0.7]}).low is None


# --- what goes with what -------------------------------------------------------------------------


def test_results_are_found_by_name_and_seed(tmp_path):
    for name in ("boat.png", "boat_7.PNG", "boat_seed8.jpg", "boat_2.webp", "Cat.png", "dog.png"):
        picture("red").save(tmp_path / name, "PNG")
    cases = [Case("boat", "x"), Case("boat_2", "x"), Case("cat", "x"), Case("cow", "x")]
    setting, notes = find_results("a", tmp_path, cases)
    assert set(setting.files) == {
        ("boat", ""), ("boat", "7"), ("boat", "8"), ("boat_2", ""), ("cat", "")
    }  # fmt: skip
    assert notes == [
        "a: left out, called after no case or no picture: dog.png",
        "a: no result of: cow",
    ]


def test_odd_files_are_left_out_with_a_line(place, models, capsys):
    (place / "good" / "red_3.png").write_bytes(b"no picture")
    (place / "good" / "notes.md").write_text("mine", encoding="utf-8")
    (place / "good" / ".hidden").write_text("system", encoding="utf-8")
    Image.new("RGB", (4, 4)).save(place / "good" / "red_4.png")
    Image.new("L", (40, 32), 128).save(place / "good" / "blue_9.png")
    (place / "references" / "green.png").write_bytes(b"no picture")
    (place / "prompts" / "pink.txt").write_text("a pink picture", encoding="utf-8")
    (place / "prompts" / "white.txt").write_bytes(b"\xff\xfe")
    found = numbers(place, models)
    said = capsys.readouterr().out
    for odd in ("red_3.png is left out", "notes.md", "red_4.png is left out: it is 4 x 4",
                "green.png is left out", "white.txt is left out", "pink"):  # fmt: skip
        assert odd in said, odd
    assert ".hidden" not in said
    rows = {(row["case"], row["seed"]): row for row in found["results"]}
    assert ("red", "3") not in rows and ("blue", "9") in rows
    assert "CLIP-T" in rows["green", "1"] and "CLIP-I" not in rows["green", "1"]
    assert "CLIP-I" in rows["white", "1"] and "CLIP-T" not in rows["white", "1"]


def test_metrics_without_a_model_are_left_out_with_a_line(place, capsys):
    assert run(place) == 0
    said = capsys.readouterr().out
    assert "SSIM" in said.splitlines()[0] and "CLIP" not in said.splitlines()[0]
    assert "CLIP-I, CLIP-T: left out, there is no --clip" in said
    assert "DINO: left out, there is no --dino" in said


def test_cases_from_a_file(tmp_path):
    picture("red").save(tmp_path / "a.png")
    file = write_lines(
        tmp_path / "cases.jsonl",
        {"name": "one", "prompt": "a boat", "reference": ["a.png", "b.png"], "seeds": [1, 2]},
        {"name": "two", "reference": "a.png"},
    )
    one, two = read_cases(file)
    assert one == Case("one", "a boat", (tmp_path / "a.png", tmp_path / "b.png"))
    assert two.prompt == "" and two.references == (tmp_path / "a.png",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"name": "a", "promt": "x"}, "Did you mean prompt?"),
        ({"name": "a"}, "neither prompt nor reference"),
        ({"name": "../a", "prompt": "x"}, "name is '../a'"),
        ({"name": 5, "prompt": "x"}, "name is 5"),
        ({"name": "a", "prompt": ["x"]}, "prompt is"),
        ({"name": "a", "reference": {"x": 1}}, "reference is"),
        ({"name": "a", "reference": "../secret.png"}, "lies outside"),
        (["a"], "no object"),
    ],
)
def test_lines_that_cannot_be(tmp_path, line, said):
    file = write_lines(tmp_path / "cases.jsonl", {"name": "b", "prompt": "x"}, line)
    with pytest.raises(ValueError, match="Line 2 of cases.jsonl") as error:
        read_cases(file)
    assert said in str(error.value)


def test_a_name_that_was_there_before(tmp_path):
    file = write_lines(tmp_path / "c.jsonl", *({"name": n, "prompt": "x"} for n in ("a", "A")))
    with pytest.raises(ValueError, match="was there before"):
        read_cases(file)


def test_nothing_to_measure_against(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="nothing to measure"):
        list_cases(tmp_path / "empty", None)


def test_folders_that_do_not_belong_together(place, capsys):
    (place / "other").mkdir()
    picture("red").save(place / "other" / "dog.png")
    assert run(place, results=("other",)) == 2
    assert "No picture" in capsys.readouterr().err
    assert run(place, results=("none",)) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_two_settings_of_one_name(place, capsys):
    assert run(place, results=("good", "good")) == 2
    assert "Two settings are called good" in capsys.readouterr().err


def test_weights_of_nan_stop_it(place, models, tmp_path, capsys):
    folder = tmp_path / "nan"
    folder.mkdir()
    for file in models["dino"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    weights["layernorm.weight"].fill_(math.nan)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert run(place, "--dino", folder, "--json", place / "x.json") == 2
    assert "is nan by nan" in capsys.readouterr().err
    assert not (place / "x.json").exists()
