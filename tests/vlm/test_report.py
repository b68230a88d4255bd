"""The report: its numbers by themselves, and a picture in which nothing is cut or covered."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import vlm
from vlm.connectors.connector import LayerWeights
from vlm.report import figure as layout
from vlm.report import measures
from vlm.report.demo_picture import draw_picture
from vlm.report.figure import Panel, in_rows
from vlm.report.inspection import inspect_tokens
from vlm.report.measures import layer_curves, off_by, picture_grid, shares, text_similarity
from vlm.token_map import new_map

SMALL = (64, 64)


@pytest.fixture(scope="module")
def model():
    return vlm.load("tiny", layers=10)


@pytest.fixture(scope="module")
def states(model):
    return model.encode("a red house", images=[draw_picture()], target="z-image", depth=-2)


@pytest.fixture
def drawn(monkeypatch):
    """Figures that were drawn."""
    figures, make = [], layout.make_figure
    monkeypatch.setattr(
        layout, "make_figure", lambda *args: (figures.append(make(*args)), figures[-1])[1]
    )
    return figures


def far_out(tokens):
    """As in Qwen3-4B: a sink token, and two massive dimensions in it."""
    far = tokens.states.clone()
    far[:, 0] *= 12
    far[:, 0, 4] *= 300
    far[:, 0, 9] *= -90
    return tokens.with_states(far)


def check_layout(figure):
    """No writing leaves the figure, and none of it runs into other writing or another plot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    words, plots = list(figure.texts), []
    for axes in figure.axes:
        if not axes.get_label().startswith("<colorbar"):
            plots.append(axes)
        words += [axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        words += [axes.get_legend()] if axes.get_legend() else []
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            shown = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
            words += [label for at, label in shown if low <= at <= high]
    words = [w for w in words if w.get_visible() and (not hasattr(w, "get_text") or w.get_text())]
    boxes = [word.get_window_extent(renderer).padded(-1) for word in words]
    whole = figure.bbox
    for word, box in zip(words, boxes, strict=True):
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= whole.x1 and box.y1 <= whole.y1
        assert inside, f"{word} leaves the figure"
    for (a, box_a), (b, box_b) in itertools.combinations(zip(words, boxes, strict=True), 2):
        assert not box_a.overlaps(box_b), f"{a} covers {b}"
    for text, box in zip(words[: len(figure.texts)], boxes, strict=False):
        for axes in plots:
            assert not box.overlaps(axes.get_window_extent(renderer)), f"{text} lies on a plot"


def two_pictures(model):
    pictures = [draw_picture(), draw_picture().resize((1600, 64))]
    states = model.encode(
        "a red house", pictures, target="z-image", system="You are a painter.", depth=-2
    )
    return inspect_tokens(states, pictures, title="Qwen3-VL-4B-Instruct  ·  target Z-Image " * 4)


def normalised(model):
    picture = draw_picture()
    states = model.encode("a red house", images=[picture], target="z-image", depth=-2)
    alone = model.encode("a red house", target="z-image")
    stats = vlm.measure_stats(far_out(vlm.select_layers(alone, -2)))
    before = vlm.filter_tokens(vlm.select_layers(states, -8), keep="image")
    pair = (before, vlm.normalize(before, stats))
    return inspect_tokens(
        states, [picture], layer=-8, stats=stats, normalized=pair, alone=alone, notes=["One. " * 60]
    )


def with_sinks(model):
    states = model.encode("a red house", images=[draw_picture()], target="z-image")
    tokens = far_out(vlm.select_layers(states, -8))
    hidden = vlm.filter_tokens(tokens, keep="all")
    stats = vlm.measure_stats(vlm.select_layers(model.encode("a house", target="z-image"), -2))
    return inspect_tokens(hidden, stats=stats)


def text_only(model):
    return inspect_tokens(model.encode("a red house", target="z-image", depth=-2))


def tall_without_words(model):
    picture = draw_picture().resize((60, 900))
    states = model.encode("", images=[picture], target="z-image", depth=-2)
    return inspect_tokens(vlm.filter_tokens(states, keep="image"), [picture])


def a_video(model):
    frames = [draw_picture().resize((96, 64))] * 4
    states = model.encode("", video=frames, fps=2, target="z-image", depth=-2)
    return inspect_tokens(states, video=frames)


def a_long_video(model):
    """The longest names of frames: they are headings side by side."""
    roles, images = ["image"] * 240 + ["text"], [0] * 240 + [-1]
    grids = [{"image": 0, "frames": 240, "rows": 1, "cols": 1}]
    token_map = new_map(roles, images, frames=[*range(240), 0], grids=grids)
    states = torch.randn(1, 241, 8, generator=torch.Generator().manual_seed(3))
    return inspect_tokens(vlm.Tokens(states, token_map), video=[draw_picture()] * 2)


def tiles(model):
    picture = draw_picture()
    other = vlm.load("tiny", family="internvl", layers=3)
    return inspect_tokens(other.encode("a red house", images=[picture], depth=-2), [picture])


def many_pictures(model):
    pictures = [Image.new("RGB", SMALL, color) for color in ("red", "green", "blue") * 5]
    states = model.encode("", images=pictures, target="z-image", depth=-2)
    return inspect_tokens(states, pictures)


def long_without_map(model):
    generator = torch.Generator().manual_seed(1)
    return inspect_tokens(vlm.Tokens(torch.randn(2, 3000, 64, generator=generator)))


def every_role(model):
    roles = [*measures.count_roles(new_map(["pad"])), *vlm.token_map.ROLES]
    images = [0 if role == "image" else -1 for role in roles]
    sounds = [0 if role == "audio" else -1 for role in roles]
    grids = [{"image": 0, "frames": 1, "rows": 1, "cols": 1}]
    states = torch.randn(1, len(roles), 8, generator=torch.Generator().manual_seed(2))
    states[0, 2] = 0  # silenced
    return inspect_tokens(vlm.Tokens(states, new_map(roles, images, grids=grids, audios=sounds)))


CASES = [
    two_pictures,
    normalised,
    with_sinks,
    text_only,
    tall_without_words,
    a_video,
    a_long_video,
    tiles,
    many_pictures,
    long_without_map,
    every_role,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.slow
def test_nothing_is_cut_or_covered(model, drawn, tmp_path, case):
    report = case(model)
    report.save(tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as picture:
        assert picture.width == 1600 and picture.format == "PNG" and picture.mode == "RGB"
    check_layout(drawn[0])
    for row in report.rows:
        for panel in row:
            assert "Good: " in panel.good and panel.here in report.text


def test_what_is_said_of_two_pictures(model):
    text = two_pictures(model).text
    assert "Image 0: 280 tokens" in text and "image 1: " in text and "All else" not in text
    assert "image 1: the picture and its tokens: image 1: " in text
    assert "10 of 11 layers are held, to layer 9." in text
    assert "Median cosine: image tokens" in text


def test_what_is_said_of_statistics_and_sinks(model):
    text = with_sinks(model).text
    assert "Sink tokens: token 0 (template," in text and "times the median)" in text
    assert "Words (" in text and "Picture (280 tokens): std off by ×" in text
    assert "each std is uncertain by" in text
    text = normalised(model).text
    assert "Before (280 tokens)" in text and "After (280 tokens): std off by × 1" in text


def test_what_is_said_of_the_rest(model):
    assert "What each picture adds" not in text_only(model).text
    text = a_video(model).text
    assert "\nframe 1 of 2: the picture" in text and "\nframe 2 of 2: the picture" in text
    assert "The video has 2 frames" in text
    assert "tokens of the whole picture, made small" in tiles(model).text
    text = many_pictures(model).text
    assert "Not drawn for want of room: image 4, image 5" in text
    text = long_without_map(model).text
    assert "No token map came with them" in text and "A batch of 2: the first one is shown" in text
    assert "1 token is zero: a mask silenced it" in every_role(model).text


def test_pictures_that_do_not_belong(model, states):
    words = vlm.filter_tokens(states, keep="text")
    text = inspect_tokens(words, [draw_picture()]).text
    assert "A picture was given, and no picture's tokens are among these." in text
    two = model.encode("", images=[draw_picture().resize(SMALL)] * 2, target="z-image", depth=3)
    assert "No picture was given for image 1." in inspect_tokens(two, [draw_picture()]).text
    half = two.take(range(5, two.n // 2 - 4))
    assert "were filtered out (dark)" in inspect_tokens(half, [draw_picture()]).text


def test_only_layers_held_are_looked_at(model):
    deep = model.encode("a red house", target="z-image", depth=4)
    deep.hold_model_weakly()
    assert "layer 4 of 10" in inspect_tokens(deep).title  # the target's is deeper
    assert "layer 2 of 10" in inspect_tokens(deep, layer=2).title
    assert "layer 3 of 10" in inspect_tokens(deep, layer=-8).title
    with pytest.raises(ValueError, match="Layer 8 is not held.*Held are 0 to 4.*set `depth` to 8"):
        inspect_tokens(deep, layer=8)
    assert deep.depth == 4
    with pytest.raises(ValueError, match="Layer 99 does not exist.*0 to 10"):
        inspect_tokens(deep, layer=99)


def test_nothing_held(model):
    with pytest.raises(ValueError, match="No layer of these hidden states has run"):
        inspect_tokens(model.encode("a red house", target="z-image"))


def test_what_does_not_fit(model, states, tmp_path):
    tokens = vlm.select_layers(states, -8)
    with pytest.raises(ValueError, match="32 wide, these tokens are 64 wide"):
        inspect_tokens(states, stats=vlm.Stats([0.0] * 32, [1.0] * 32))
    stats = vlm.measure_stats(tokens)
    kept = vlm.filter_tokens(tokens, keep="image")
    with pytest.raises(ValueError, match="same tokens before and after"):
        inspect_tokens(states, stats=stats, normalized=(tokens, kept))
    with pytest.raises(ValueError, match="of one layer already"):
        inspect_tokens(tokens, layer=3)
    broken = tokens.states.clone()
    broken[0, 7, 3] = float("nan")
    with pytest.raises(ValueError, match="1 of .* hold NaN or Inf, the first is token 7"):
        inspect_tokens(tokens.with_states(broken))
    one = vlm.Tokens(torch.ones(1, 1, 64))
    assert "no spread to compare" in inspect_tokens(one, stats=stats).text
    report = inspect_tokens(one)
    with pytest.raises(FileNotFoundError, match="folder"):
        report.save(tmp_path / "no" / "report.png")


def test_without_matplotlib(monkeypatch, states):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    report = inspect_tokens(states)
    assert "318" in report.text or "tokens" in report.text
    with pytest.raises(ModuleNotFoundError, match="pip install matplotlib"):
        report.picture()


class Trained:
    """What a panel asks of a connector."""

    def __init__(self, weights, monkeypatch, drawn, states):
        from vlm.connectors.one_layer import OneLayerConnector

        class Connector(OneLayerConnector):
            def __init__(self):
                self.name, self.module, self._kind = "x.safetensors", None, "Trained"

            title = "A connector"
            in_width = width = 64
            layers_read = None

            def layer_weights(self, num_layers=None):
                return weights

        self.report = inspect_tokens(states, connector=Connector())


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (
            LayerWeights(torch.tensor([0.1, -0.9, 0.3]), (2, 5, 8), "pooling weight"),
            "layer 5 (-0.9)",
        ),
        (LayerWeights(torch.linspace(-1, 1, 37), None, "factor"), "layer read as number 0 (-1)"),
        (LayerWeights(torch.full((11,), 1 / 11), tuple(range(11)), "factor"), "All 11 layers have"),
        (None, "has no weights by layer to show"),
    ],
)
@pytest.mark.slow
def test_weights_by_layer(monkeypatch, drawn, states, weights, said):
    report = Trained(weights, monkeypatch, drawn, states).report
    assert said in report.text
    report.picture()
    check_layout(drawn[0])


def test_rows_of_panels():
    panels = [Panel(str(i), "", "", print) for i in range(7)]
    shape = [[len(row) for row in in_rows(panels[:n])] for n in range(8)]
    assert shape == [[], [1], [2], [3], [2, 2], [3, 2], [3, 3], [3, 2, 2]]
    assert [p.title for row in in_rows(panels) for p in row] == list("0123456")


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
    with pytest.raises(ValueError, match="image 3, and the prompt has these: 0, 1"):
        picture_grid(token_map, 3)


def test_text_similarity():
    states = torch.tensor([[1.0, 0.0], [1.0, 0.2], [-1.0, -0.1], [-1.0, -0.1]]) + 50
    likeness = text_similarity(states, ["text", "image", "image", "template"])
    assert likeness[1] > 0.9 and likeness[2] < -0.9  # in spite of what all tokens share
    assert likeness.abs().max() <= 1 + 1e-6
    assert text_similarity(states, ["image"] * 4).tolist() == [0.0] * 4
    silenced = torch.cat([states, torch.zeros(3, 2)])  # they move nothing, and are like nothing
    found = text_similarity(silenced, ["text", "image", "image", "template"] + ["image"] * 3)
    assert found[4:].tolist() == [0.0] * 3 and torch.allclose(found[:4], likeness, atol=1e-5)


def test_layer_curves(model):
    states = model.encode("a red house", images=[draw_picture().resize(SMALL)], depth=3)
    curves = layer_curves(states)
    assert curves.layers == (0, 1, 2, 3) and curves.norms["image"].shape == (4, 3)
    image = [i for i, role in enumerate(states.token_map["role"]) if role == "image"]
    two, three = (states.layer(k)[0, image].float() for k in (2, 3))
    assert float(curves.norms["image"][2, 1]) == pytest.approx(
        float(two.norm(dim=1).quantile(0.5)), rel=1e-4
    )
    cosine = torch.nn.functional.cosine_similarity(two, three, dim=1).quantile(0.5)
    assert curves.likeness["image"].shape == (3, 3)
    assert float(curves.likeness["image"][2, 1]) == pytest.approx(float(cosine), abs=1e-4)
    assert list(layer_curves(model.encode("a", depth=1)).norms) == ["text"]


def test_shares():
    token_map = new_map(["image", "image", "text", "text", "text", "pad"], [0, 1, -1, -1, -1, -1])
    norms = torch.tensor([3.0, 1.0, 4.0, 900.0, 0.0, 50.0])
    sinks = torch.tensor([False, False, False, True, False, False])
    found = shares(norms, sinks, token_map)
    assert [(each.image, each.tokens) for each in found] == [(0, 1), (1, 1), (-1, 2)]
    assert [each.of_tokens for each in found] == [0.25, 0.25, 0.5]
    assert [each.of_norms for each in found] == [0.375, 0.125, 0.5]


def test_off_by():
    want = torch.tensor([1.0, 2.0, 4.0, 0.0])  # the last one is constant and does not count
    assert off_by(torch.tensor([2.0, 2.0, 0.5, 9.0]), want) == (2.0, 8.0, 2)
    assert off_by(want, want)[:2] == (1.0, 1.0)
    assert off_by(torch.ones(2), torch.zeros(2)) == (1.0, 1.0, 0)


@pytest.mark.slow
def test_matplotlib_and_transformers_load_on_first_use():
    code = (
        "import sys, vlm.report.inspection, vlm.cli; "
        "print([name for name in ('matplotlib', 'transformers') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_numbers_are_short():
    values = (0.0, 0.01234, 9.876, 2789.6, 123456.0, 1.5e9)
    assert [measures.short(value) for value in values] == [
        "0", "0.0123", "9.88", "2790", "123000", "1.5e+09",
    ]  # fmt: skip
