"""The report: its numbers by themselves, and a picture in which nothing is cut or covered."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import vlm
from vlm.report.demo_picture import draw_picture
from vlm.report.figure import layer_norms, make_report, picture_grid, text_similarity
from vlm.token_map import new_map


@pytest.fixture(scope="module")
def model():
    return vlm.load("tiny", layers=10)


@pytest.fixture
def drawn(monkeypatch):
    """Figures that were saved."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1]
    )
    return figures


def parts(model, images, keep="image", mode="auto", system=None, boost=False):
    states = model.encode("a red house", images=images, target="z-image", system=system)
    alone = model.encode("a red house", target="z-image")
    text = vlm.select_layers(alone, -2)
    if boost:  # as in Qwen3-4B: a sink token and two massive dimensions
        far = text.states.clone()
        far[..., 4] *= 300
        far[:, 0] *= 12
        text = text.with_states(far)
    stats = vlm.measure_stats(text)
    before = vlm.filter_tokens(vlm.select_layers(states, -8), keep=keep)
    return states, alone, before, vlm.normalize(before, stats, mode=mode), stats


def check_layout(figure):
    """No text leaves the figure, no title or legend runs into another."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    whole = figure.bbox
    words = []
    for axes in figure.axes:
        words += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        words += [axes.get_legend()] if axes.get_legend() else []
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            shown = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
            words += [label for at, label in shown if low <= at <= high]
    words = [w for w in words if w.get_visible() and (not hasattr(w, "get_text") or w.get_text())]
    boxes = [word.get_window_extent(renderer) for word in words]
    for word, box in zip(words, boxes, strict=True):
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= whole.x1 + 1 and box.y1 <= whole.y1 + 1
        assert inside, f"{word} leaves the figure"
    headings = [
        (word, box)
        for word, box in zip(words, boxes, strict=True)
        if not hasattr(word, "get_text") or word.get_fontweight() == "bold"
    ]
    for (a, box_a), (b, box_b) in itertools.combinations(headings, 2):
        assert not box_a.overlaps(box_b), f"{a} covers {b}"


CASES = {
    "a picture": ([draw_picture()], 0, "image", False, None),
    "massive dimensions": ([draw_picture()], 0, "image", True, None),
    "text tokens, second picture, wide": (
        [draw_picture(), draw_picture().resize((1600, 64))],
        1,
        "text",
        False,
        "You are a painter.",
    ),
    "tall": ([draw_picture().resize((60, 900))], 0, "image", False, None),
}


@pytest.mark.parametrize("case", CASES)
def test_report(model, tmp_path, drawn, case):
    images, number, keep, boost, system = CASES[case]
    states, alone, before, after, stats = parts(model, images, keep, boost=boost, system=system)
    make_report(
        tmp_path / "report.png",
        images[number],
        states,
        before,
        after,
        stats,
        layer=-8,
        mode="auto",
        image=number,
        reference=alone if number == 0 else None,
        title="Qwen3-VL-4B-Instruct  ·  target Z-Image",
    )
    with Image.open(tmp_path / "report.png") as picture:
        assert picture.width == 1600 and picture.format == "PNG"
    check_layout(drawn[0])


def test_a_video_and_an_empty_prompt(model, tmp_path):
    states = model.encode("", video=[draw_picture().resize((96, 64))] * 4, fps=2, target="z-image")
    tokens = vlm.filter_tokens(vlm.select_layers(states, -8), keep="image")
    stats = vlm.measure_stats(tokens)
    path = tmp_path / "report.png"
    make_report(path, draw_picture(), states, tokens, tokens, stats, layer=-8, mode="robust")
    assert path.stat().st_size > 10000


def test_what_does_not_fit(model, tmp_path):
    states, _, before, after, stats = parts(model, [draw_picture().resize((96, 64))])
    path = tmp_path / "report.png"

    def report(*, place=path, one=before, two=after, to=stats, **more):
        make_report(place, draw_picture(), states, one, two, to, mode="auto", **more)

    with pytest.raises(ValueError, match="image 3, and the prompt has these: 0"):
        report(layer=-8, image=3)
    with pytest.raises(ValueError, match="Layer 99 does not exist"):
        report(layer=99)
    with pytest.raises(FileNotFoundError, match="folder"):
        report(layer=-8, place=tmp_path / "no" / "report.png")
    with pytest.raises(ValueError, match="same tokens before and after"):
        report(layer=-8, two=vlm.select_layers(states, -8))
    with pytest.raises(ValueError, match="32 wide, these tokens are 64 wide"):
        report(layer=-8, to=vlm.Stats([0.0] * 32, [1.0] * 32))
    one = vlm.Tokens(torch.ones(1, 1, 64))
    with pytest.raises(ValueError, match="at least 2"):
        report(layer=-8, one=one, two=one)
    assert not path.exists()


def test_picture_grid():
    token_map = new_map(
        ["text", "image", "image", "image", "image"],
        images=[-1, 0, 0, 1, 1],
        rows=[0, 0, 0, 0, 1],
        cols=[0, 0, 1, 0, 0],
        grids=[
            {"image": 0, "frames": 1, "rows": 1, "cols": 2},
            {"image": 1, "frames": 1, "rows": 3, "cols": 1},
        ],
    )
    assert picture_grid(token_map, 0).tolist() == [[1, 2]]
    assert picture_grid(token_map, 1).tolist() == [[3], [4], [-1]]


def test_text_similarity():
    states = torch.tensor([[1.0, 0.0], [1.0, 0.2], [-1.0, -0.1], [-1.0, -0.1]]) + 50
    likeness = text_similarity(states, ["text", "image", "image", "template"])
    assert likeness[1] > 0.9 and likeness[2] < -0.9  # in spite of what all tokens share
    assert likeness.abs().max() <= 1 + 1e-6
    assert text_similarity(states, ["image"] * 4).tolist() == [0.0] * 4


def test_layer_norms(model):
    states = model.encode("a red house", images=[draw_picture().resize((64, 64))], depth=3)
    held, norms = layer_norms(states)
    assert held == [0, 1, 2, 3] and norms["image"].shape == (4, 3)
    image = [i for i, role in enumerate(states.token_map["role"]) if role == "image"]
    expected = states.layer(2)[0, image].norm(dim=1).median()
    assert norms["image"][2, 1] == pytest.approx(float(expected), rel=0.05)
    assert list(layer_norms(model.encode("a", depth=1))[1]) == ["text"]


def test_matplotlib_and_transformers_load_on_first_use():
    code = (
        "import sys, vlm.report, vlm.cli; "
        "print([name for name in ('matplotlib', 'transformers') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
