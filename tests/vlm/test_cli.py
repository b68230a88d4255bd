"""The command line: what it writes equals the library's way, and what goes wrong takes one line."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import vlm
from vlm import cli
from vlm.cli import progress
from vlm.conditioning.file import load_about, load_conditioning
from vlm.pictures import media_files as inputs
from vlm.report.demo_picture import SIZE, draw_picture
from vlm.report.inspection import inspect_tokens
from vlm.tiny.folder import write_tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model of 10 decoder layers, so that -8 exists and runs are short."""
    return write_tiny(tmp_path_factory.mktemp("models") / "short", layers=10)


@pytest.fixture(scope="module")
def model(folder):
    return vlm.load(folder)


@pytest.fixture
def place(tmp_path):
    draw_picture().crop((0, 0, 256, 128)).save(tmp_path / "wide.png")
    draw_picture().crop((0, 0, 96, 160)).save(tmp_path / "tall.jpg")
    return tmp_path


def encode(folder, place, *words, code=0):
    """Runs `encode` in this process; the states it wrote."""
    out = place / "out.safetensors"
    assert cli.main(["encode", "--model", str(folder), "--out", str(out), *words]) == code
    return load_conditioning(out)[0].tokens if code == 0 else None


def pictures(place, *names):
    return [inputs.read_picture(str(place / name)) for name in names]


def test_text_alone_is_the_targets_text_layer(folder, model, place, capsys):
    tokens = encode(folder, place, "--text", "a red house")
    expected = vlm.select_layers(model.encode("a red house", target="z-image"), -2)
    assert torch.equal(tokens.states, expected.states)
    assert tokens.token_map == expected.token_map
    said = capsys.readouterr()
    assert "9 of 0..10 (single)" in said.out
    assert "Loading weights" not in said.err
    assert load_about(place / "out.safetensors")["text"] == "a red house"


def test_the_recommended_settings_equal_the_librarys_way(folder, model, place):
    words = ("--image", str(place / "wide.png"), "--image", str(place / "tall.jpg"))
    tokens = encode(
        folder, place, *words, "--text", "a boat", "--normalize", "global", "--alpha", "0.3"
    )
    text = vlm.select_layers(model.encode("a boat", target="z-image"))
    images = pictures(place, "wide.png", "tall.jpg")
    states = model.encode("a boat", images=images, target="z-image")
    kept = vlm.filter_tokens(vlm.select_layers(states, -8), keep="text")
    kept = vlm.normalize(kept, vlm.measure_stats(text), mode="global")
    expected = vlm.blend(kept, text, alpha=0.3)
    assert torch.allclose(tokens.states, expected.states, rtol=0, atol=1e-5)
    about = load_about(place / "out.safetensors")
    assert about["images"] == ["wide.png", "tall.jpg"] and about["alpha"] == 0.3
    assert about["model"] == "short"


def test_alpha_0_is_the_text_bit_for_bit(folder, model, place):
    words = ("--image", str(place / "wide.png"), "--text", "a boat", "--alpha", "0")
    tokens = encode(folder, place, *words)
    expected = vlm.select_layers(model.encode("a boat", target="z-image"))
    assert torch.equal(tokens.states, expected.states)


def test_reference_and_statistics(folder, model, place):
    words = ("--image", str(place / "wide.png"), "--text", "a boat", "--keep", "image")
    one = encode(folder, place, *words, "--normalize", "auto", "--reference", "an old harbour")
    reference = vlm.select_layers(model.encode("an old harbour", target="z-image"))
    stats = vlm.measure_stats(reference)
    assert torch.allclose(one.states.mean(dim=1)[0], stats.mean, atol=0.5)
    vlm.save_stats(stats, place / "stats.safetensors")
    saved = ("--stats", str(place / "stats.safetensors"), "--normalize", "per_dim")
    two = encode(folder, place, *words, *saved)
    assert torch.allclose(one.states, two.states, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "layers", "combine"),
    [
        (("--layers", "-2:0.7, -8:0.3"), "-2:0.7, -8:0.3", None),
        (("--layers", "-4"), "-4", None),
        (("--layers", "-1", "--no-final-norm"), None, None),
        (("--layers", "2,4,6", "--combine", "concat"), "2,4,6", "concat"),
    ],
)
def test_layers(folder, model, place, words, layers, combine):
    tokens = encode(folder, place, "--text", "a boat", *words)
    states = model.encode("a boat", target="z-image")
    expected = states.layer(-1, final_norm=False)
    if layers is not None:
        expected = vlm.select_layers(states, layers, combine).states
    assert torch.equal(tokens.states, expected)


def test_keep_and_what_a_target_never_sees(folder, model, place):
    words = ("--image", str(place / "wide.png"), "--text", "a boat")
    assert set(encode(folder, place, *words, "--keep", "image").token_map["role"]) == {"image"}
    kept = encode(folder, place, *words, "--keep", "text, vision_marker").token_map["role"]
    assert set(kept) == {"text", "vision_marker"}
    dropped = encode(folder, place, "--text", "a boat", "--target", "qwen-image")
    whole = model.encode("a boat", target="qwen-image")
    assert dropped.n == whole.token_map["n"] - whole.dropped < whole.token_map["n"]


def test_text_file_and_system(folder, place):
    (place / "prompt.txt").write_bytes("\ufeffein Haus, 家\r\n".encode())
    tokens = encode(folder, place, "--text-file", str(place / "prompt.txt"), "--system", "Paint.")
    assert "system" in tokens.token_map["role"]
    assert load_about(place / "out.safetensors")["text"] == "ein Haus, 家"


def test_a_system_prompt_from_a_file(folder, place, capsys):
    (place / "pe.txt").write_bytes("\ufeffPaint.\r\n".encode())
    want = encode(folder, place, "--text", "a boat", "--system", "Paint.")
    got = encode(folder, place, "--text", "a boat", "--system-file", str(place / "pe.txt"))
    assert torch.equal(got.states, want.states)
    assert load_about(place / "out.safetensors")["system"] == "Paint."
    (place / "pe.txt").write_bytes("Paint.".encode("utf-16"))
    command = [
        "encode",
        "--model",
        str(folder),
        "--text",
        "a",
        "--out",
        str(place / "o.safetensors"),
    ]
    assert cli.main([*command, "--system-file", str(place / "pe.txt")]) == 2
    assert "pe.txt is not text in UTF-8" in capsys.readouterr().err


def test_video_of_a_folder_and_of_a_gif(folder, place):
    frames = [draw_picture().resize((128, 96)).rotate(8 * turn) for turn in range(11)]
    (place / "frames").mkdir()
    for number, frame in enumerate(frames):
        frame.save(place / "frames" / f"f{number}.png")
    (place / "frames" / "notes.txt").write_text("no picture")
    read, fps = inputs.read_video(str(place / "frames"), None)
    assert fps == 24 and len(read) == 11
    assert all(a.tobytes() == b.tobytes() for a, b in zip(read, frames, strict=True))
    keep = ("--keep", "image", "--layers", "2", "--text", "a boat")
    one = encode(folder, place, "--video", str(place / "frames"), "--fps", "4", *keep)
    frames[0].save(
        place / "moving.gif", save_all=True, append_images=frames[1:], duration=250, loop=0
    )
    read, fps = inputs.read_video(str(place / "moving.gif"), None)
    assert fps == pytest.approx(4) and len(read) == 11 and read[3].mode == "RGB"
    two = encode(folder, place, "--video", str(place / "moving.gif"), *keep)
    assert one.token_map == two.token_map and max(one.token_map["frame"]) > 0


def test_a_camera_held_sideways(place):
    picture = draw_picture()
    exif = picture.getexif()
    exif[274] = 6  # turned by a quarter
    picture.save(place / "camera.jpg", exif=exif)
    assert inputs.read_picture(str(place / "camera.jpg")).size == (SIZE[1], SIZE[0])


BAD = [
    ((), "nothing to encode"),
    (("--text", "a", "--image", "none.png"), "There is no picture none.png"),
    (("--text", "a", "--image", "text.png"), "not a picture that can be read"),
    (("--text", "a", "--image", "cut.png"), "not a picture that can be read"),
    (("--text", "a", "--video", "film.mp4"), "movie file"),
    (("--text", "a", "--video", "empty"), "holds no picture"),
    (("--text", "a", "--video", "none"), "There is no video none"),
    (("--text-file", "latin.txt"), "not text in UTF-8"),
    (("--text", "a", "--keep", "picture"), "`keep` has no role 'picture'"),
    (("--text", "a", "--alpha", "1.5"), "--alpha is the picture's share"),
    (("--text", "a", "--layers", "40"), "Layer 40 does not exist"),
    (("--text", "a", "--layers", "two"), "no choice of layers"),
    (("--text", "a", "--stats", "none.safetensors"), "no statistics file"),
    (("--text", "a", "--stats", "text.png"), "not a safetensors file"),
    (("--text", "a", "--keep", "image"), "leaves nothing"),
    (("--text", "a", "--device", "toaster"), "no device 'toaster'"),
    (("--text", "a", "--model", "none"), "There is no folder none"),
    (("--text", "a", "--model", "empty"), "no config.json"),
    (("--text", "a", "--out", "none/x.safetensors"), "--out does not exist"),
    (("--text", "a", "--out", "x.png"), "ends in .safetensors"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "says"), BAD, ids=[says for _, says in BAD])
def test_errors_take_one_line_and_write_nothing(folder, place, monkeypatch, capsys, words, says):
    monkeypatch.chdir(place)
    Path("text.png").write_text("no picture")
    Path("film.mp4").write_bytes(b"")
    whole = Path("wide.png").read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Path("latin.txt").write_bytes("Häuser".encode("latin-1"))
    Path("empty").mkdir()
    before = sorted(place.iterdir())
    encode(folder, place, *words, code=2)
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and said.err.startswith("error: ")
    assert says in said.err and not said.out
    assert sorted(place.iterdir()) == before


def test_options_that_argparse_refuses(folder, capsys):
    for words in (["encode"], ["encode", "--alpha", "x"], ["no-command"], []):
        with pytest.raises(SystemExit) as stopped:
            cli.main(words)
        assert stopped.value.code == 2
    with pytest.raises(SystemExit):
        cli.main(["encode", "--model", "m", "--out", "o", "--min-pixels", "0"])
    assert "0 is not above 0" in capsys.readouterr().err


def test_a_note_says_what_does_not_fit(folder, place, capsys):
    encode(folder, place, "--text", "a boat")
    assert "note: This conditioning is 64 wide, Z-Image reads 2560." in capsys.readouterr().out


def test_interrupt(folder, place, monkeypatch, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.encode, "make", stop)
    encode(folder, place, "--text", "a boat", code=130)
    assert capsys.readouterr().err == "stopped\n"


TWO = ("--image", "wide.png", "--image", "tall.jpg")


@pytest.fixture
def reports(monkeypatch):
    """What the commands drew."""
    made, real = [], inspect_tokens

    def recorded(*args, **kwargs):
        made.append(real(*args, **kwargs))
        return made[-1]

    for command in (cli.encode, cli.demo):
        monkeypatch.setattr(command, "inspect_tokens", recorded)
    return made


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--text", "a boat"), ["layer 9 of 10", " tokens (text)."]),
        (
            (*TWO, "--text", "a boat", "--normalize", "global", "--alpha", "1"),
            [
                "layer 3 of 10",
                "image 1: the picture",
                "After (",
                "(global); then they were blended",
            ],
        ),
        (("--video", "film", "--layers", "2,6,4", "--combine", "concat"), ["layer 6 of 10"]),
    ],
    ids=["text", "pictures", "video"],
)
@pytest.mark.slow
def test_report(folder, place, reports, words, said, capsys):
    (place / "film").mkdir()
    for number in range(4):
        draw_picture().resize((96, 64)).save(place / "film" / f"{number}.png")
    words = [str(place / word) if (place / word).exists() else word for word in words]
    encode(folder, place, *words, "--report", str(place / "seen.png"))
    with Image.open(place / "seen.png") as picture:
        assert picture.width == 1600 and picture.format == "PNG"
    (report,) = reports
    assert report.title.startswith("short  ·  target Z-Image")
    assert all(each in report.text for each in said)
    assert "random weights" not in report.text
    assert "seen.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--report", "seen.jpg"), "expected a name that ends in .png"),
        (("--report", "nowhere/seen.png"), "The folder nowhere for --report does not exist"),
        (("--folder", ".", "--report", "seen.png"), "not of --jobs or --folder"),
    ],
)
def test_a_report_that_cannot_be(folder, place, monkeypatch, capsys, words, said):
    monkeypatch.chdir(place)
    monkeypatch.setattr(cli.encode, "load_model", None)  # nothing large is loaded in vain
    encode(folder, place, "--text", "a boat", *words, code=2)
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_demo(tmp_path, capsys, reports):
    assert cli.main(["demo", "--out", str(tmp_path / "new" / "demo")]) == 0
    said = capsys.readouterr()
    names = sorted(file.name for file in (tmp_path / "new" / "demo").iterdir())
    assert names == [
        "conditioning-image.safetensors",
        "conditioning.safetensors",
        "picture.png",
        "report.png",
    ]
    for name, mode in (("conditioning", "global"), ("conditioning-image", "per_dim")):
        file = tmp_path / "new" / "demo" / f"{name}.safetensors"
        (entry,) = load_conditioning(file)
        assert entry.tokens.width == 64 and torch.isfinite(entry.tokens.states).all()
        assert load_about(file)["normalize"] == mode
    with Image.open(tmp_path / "new" / "demo" / "report.png") as picture:
        assert picture.width == 1600
    (report,) = reports
    assert "random weights" in report.title and "numbers of this report mean nothing" in report.text
    assert "Before (280 tokens)" in report.text and "30 of 37 layers are held" in report.text
    assert "image 280" in said.out and "286 tokens reused" in said.out
    assert "Loading weights" not in said.err and "Warning" not in said.err


def test_bars_only_for_what_lasts(folder, place, monkeypatch, capsys):
    words = ("--text", "a boat", "--image", str(place / "wide.png"))
    monkeypatch.setattr(progress, "DELAY", 600.0)
    encode(folder, place, *words)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "DELAY", 0.0)
    encode(folder, place, *words)
    shown = capsys.readouterr().err
    assert "Loading the model" in shown and "Encoding" in shown


def test_a_cache_on_disk_gives_the_same_without_running(folder, place, monkeypatch):
    from vlm.running.huggingface import HuggingFaceBackbone

    words = ["--text", "a red house", "--disk-cache", str(place / "cache")]
    first = encode(folder, place, *words)
    monkeypatch.setattr(HuggingFaceBackbone, "run_layer", None)
    assert torch.equal(encode(folder, place, *words).states, first.states)
