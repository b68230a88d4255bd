"""CLIP-I, CLIP-T, DINO and SSIM beside plain computations, and what they are for."""

import json
import shutil

import numpy as np
import pytest
import torch
from colours import COLOURS, WORDS, picture, pixels
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity
from transformers import CLIPModel, Dinov2Model

from vlm.evaluate.metrics import Against, Clip, Dino, Ssim

CPU = torch.device("cpu")


def plain_ssim(a, b):
    """SSIM after Wang et al. 2004, of two uint8 pictures mirrored at their edges."""
    window = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    edges = ((5, 5), (5, 5), (0, 0))
    a, b = (np.pad(np.asarray(each, np.float64) / 255, edges, "reflect") for each in (a, b))

    def mean(values):
        return (sliding_window_view(values, (11, 11), (0, 1)) * window).sum((-1, -2))

    c1, c2 = 0.01**2, 0.03**2
    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2
    cov = mean(a * b) - mu_a * mu_b
    score = (2 * mu_a * mu_b + c1) * (2 * cov + c2)
    return (score / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))).mean()


def test_clip_equals_a_plain_computation(models):
    results = [picture("red", 30, 1), picture("blue", 30, 2), picture("green", 30, 3)]
    references = [picture("red"), picture("yellow", 20, 4)]
    found = Clip(models["clip"], CPU)(Against("a red picture", references), results)
    model = CLIPModel.from_pretrained(models["clip"]).eval()
    ids = torch.tensor([[WORDS.index(word) for word in ("a", "red", "picture", "<|end|>")]])
    with torch.no_grad():
        seen = model(input_ids=ids, pixel_values=pixels([*results, *references]))
    ours, theirs, words = seen.image_embeds[:3], seen.image_embeds[3:], seen.text_embeds
    likeness = cosine_similarity(ours[:, None], theirs[None], dim=-1).mean(1)
    assert found["CLIP-I"] == pytest.approx(likeness.tolist(), abs=1e-5)
    assert found["CLIP-T"] == pytest.approx(cosine_similarity(ours, words).tolist(), abs=1e-5)
    assert len({round(value, 4) for value in found["CLIP-T"]}) == 3


def test_dino_equals_a_plain_computation(models):
    results, reference = [picture("red", 30, 1), picture("white", 9, 2)], picture("green")
    found = Dino(models["dino"], CPU)(Against("", [reference]), results)
    model = Dinov2Model.from_pretrained(models["dino"]).eval()
    with torch.no_grad():
        states = model(pixel_values=pixels([*results, reference])).last_hidden_state[:, 0]
    expected = cosine_similarity(states[:2], states[2:])
    assert found == {"DINO": pytest.approx(expected.tolist(), abs=1e-5)}


def test_ssim_equals_the_paper_s_formula():
    rng = np.random.default_rng(0)
    a = Image.fromarray(rng.integers(0, 256, (40, 52, 3), np.uint8))
    b = Image.fromarray((np.asarray(a) * 0.6 + rng.normal(40, 25, (40, 52, 3))).astype(np.uint8))
    found = Ssim()(Against("", [b]), [a])
    assert found == {"SSIM": [pytest.approx(plain_ssim(a, b), abs=1e-4)]}
    assert 0.2 < found["SSIM"][0] < 0.9


def test_the_reference_itself_is_1(models):
    same = picture("yellow", 40)
    against = Against("", [same])
    for measure in (Ssim(), Clip(models["clip"], CPU), Dino(models["dino"], CPU)):
        for values in measure(against, [same]).values():
            assert values == [pytest.approx(1, abs=1e-5)]


def test_a_larger_reference_is_fitted():
    """Half of a wide reference is cropped away, and what is left is the result's content."""
    wide = Image.new("RGB", (128, 64), "white")
    wide.paste(picture("blue", size=(64, 64)), (32, 0))
    assert Ssim()(Against("", [wide]), [picture("blue")])["SSIM"][0] > 0.9
    assert Ssim()(Against("", [wide.resize((64, 64))]), [picture("blue")])["SSIM"][0] < 0.8


def test_words_tell_colours_apart(models):
    """Each prompt is nearest to its own colour."""
    clip = Clip(models["clip"], CPU)
    pictures = [picture(name, 8, 1) for name in COLOURS]
    for at, name in enumerate(COLOURS):
        scores = clip(Against(f"a {name} picture", []), pictures)["CLIP-T"]
        assert int(np.argmax(scores)) == at


def test_prompts_that_clip_cuts_are_told(models):
    clip = Clip(models["clip"], CPU)
    clip(Against("a red picture", []), [picture("red")])
    assert clip.notes == []
    assert clip(Against("a red picture " * 9, []), [picture("red")])["CLIP-T"]
    assert len(clip.notes) == 1 and "longer than the 8 tokens" in clip.notes[0]


# --- folders that cannot be ----------------------------------------------------------------------


@pytest.fixture
def folder(models, tmp_path):
    return shutil.copytree(models["clip"], tmp_path / "copy")


def change(file, **changes):
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**content, **changes}), encoding="utf-8")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="--dino"):
        Dino(tmp_path / "none", CPU)


def test_another_kind_of_model(models):
    with pytest.raises(ValueError, match="type 'dinov2', --clip takes clip"):
        Clip(models["dino"], CPU)


def test_weights_that_are_missing_are_not_drawn(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 tensors, such as visual_projection\.weight"):
        Clip(folder, CPU)


def test_code_of_a_folder_is_never_run(folder):
    mark = folder / "ran"
    code = f"open({str(mark)!r}, 'w')\nclass Own: pass\n"
    (folder / "own.py").write_text(code, encoding="utf-8")
    own = {"AutoModel": "own.Own", "AutoImageProcessor": "own.Own", "AutoTokenizer": "own.Own"}
    for name in ("config.json", "preprocessor_config.json", "tokenizer_config.json"):
        change(folder / name, auto_map=own)
    try:
        Clip(folder, CPU)
    except ValueError as error:
        assert "cannot be read" in str(error)
    assert not mark.exists()


def test_damaged_files_are_named(folder):
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="copy cannot be read"):
        Clip(folder, CPU)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="not valid JSON"):
        Clip(folder, CPU)


class Missing(type):
    """Of a class that transformers puts in place of one that wants a package."""

    def __getattribute__(cls, name):
        raise ImportError(f"{name} requires the Torchvision library but it was not found")


def test_an_image_processor_that_wants_torchvision(models, monkeypatch):
    monkeypatch.setattr("transformers.AutoImageProcessor", Missing("AutoImageProcessor", (), {}))
    with pytest.raises(ValueError, match="without torchvision. Install torchvision, or a newer"):
        Dino(models["dino"], torch.device("cpu"))
