"""Jobs from a JSON Lines file and from a folder: all of it is checked before anything runs."""

import json

import pytest

from vlm.batch.folder import list_jobs
from vlm.batch.jobs import Provenance, read_jobs
from vlm.batch.recipe import Recipe

MAKER = Provenance("tiny")


@pytest.fixture
def write(tmp_path):
    """`write(*lines)`: a jobs file; text as it is, anything else as JSON."""

    def to_file(*lines):
        text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (tmp_path / "jobs.jsonl").write_text("\n".join(text) + "\n", encoding="utf-8")
        return tmp_path / "jobs.jsonl"

    return to_file


def digests(file, defaults=None, maker=MAKER):
    return [job.digest for job in read_jobs(file, defaults or Recipe(), maker)]


def test_lines_and_defaults(write, tmp_path):
    (tmp_path / "words.txt").write_text("from a file\n", encoding="utf-8")
    file = write(
        {"text": "a"},
        "",
        {"id": "second", "text": "b", "image": "one.png", "layers": -8, "alpha": 1},
        {"text_file": "words.txt", "image": ["one.png", "two.png"], "layers": [2, 4], "fps": None},
        {"video": "frames", "fps": 4, "max-pixels": 65536, "min_pixels": 1024.0, "stats": "s.st"},
        {"text": "c", "keep": "image", "no_final_norm": True, "image": "/elsewhere/x.png"},
    )
    defaults = Recipe(text="default", keep="prompt", stats="here.st", layers="-2:0.7,-8:0.3")
    jobs = read_jobs(file, defaults, MAKER, allow_outside=True)
    assert [job.id for job in jobs] == ["000001", "second", "000004", "000005", "000006"]
    one, two, three, four, five = (job.recipe for job in jobs)
    assert (one.text, one.keep, one.layers) == ("a", "prompt", "-2:0.7,-8:0.3")
    assert (two.image, two.layers, two.alpha) == ((str(tmp_path / "one.png"),), "-8", 1.0)
    assert three.text == "from a file" and three.layers == "2,4" and three.fps is None
    assert three.image == (str(tmp_path / "one.png"), str(tmp_path / "two.png"))
    assert three.stats == "here.st"  # of the command line, so not beside the jobs file
    assert four.text == "default" and four.video == str(tmp_path / "frames")
    assert (four.max_pixels, four.min_pixels, four.fps) == (65536, 1024, 4.0)
    assert four.stats == str(tmp_path / "s.st")
    assert five.keep == "image" and five.no_final_norm and five.image == ("/elsewhere/x.png",)


def test_a_system_prompt_from_a_file_takes_the_place_of_the_options(write, tmp_path):
    (tmp_path / "pe.txt").write_bytes("\ufeffPaint.\r\n".encode())
    file = write({"text": "a"}, {"text": "a", "system-file": "pe.txt"})
    one, two = read_jobs(file, Recipe(system="Draw."), MAKER)
    assert (one.recipe.system, two.recipe.system) == ("Draw.", "Paint.")


def test_a_digest_knows_the_job_and_the_maker_but_no_place(write, tmp_path):
    file = write({"text": "a", "image": "x.png"}, {"text": "b", "image": "x.png"})
    one, two = digests(file)
    assert one != two
    assert digests(file) == [one, two]
    assert digests(file, Recipe(alpha=0.3))[0] != one
    assert digests(file, maker=Provenance("other"))[0] != one
    assert digests(file, maker=Provenance("tiny", "bfloat16"))[0] != one
    (tmp_path / "moved").mkdir()
    assert digests(file.rename(tmp_path / "moved" / "renamed.jsonl")) == [one, two]
    words = {"text_file": "words.txt"}
    (tmp_path / "words.txt").write_text("a")
    before = digests(write(words))
    (tmp_path / "words.txt").write_text("b")
    assert digests(write(words)) != before  # words are known by what they say


BAD_LINES = [
    ("{", "not JSON"),
    ('"text"', "no object"),
    ("[" * 100_000, "not JSON"),
    ({"txt": "a"}, "'txt' is no option of a job. Use id, text_file, system_file, text"),
    ({"out": "x", "text": "a"}, "'out' is no option"),
    ('{"text": "a", "text": "b"}', "'text' is there twice"),
    ({"text": "a", "max-pixels": 9, "max_pixels": 9}, "max_pixels is there twice"),
    ({"text": 5}, "--text is 5, expected text"),
    ({"text": "a", "image": 5}, "--image is 5, expected a file or a list of files"),
    ({"text": "a", "image": ["a.png", None]}, "expected a file or a list of files"),
    ({"text": "a", "alpha": "0.3"}, '--alpha is "0.3", expected a number'),
    ({"text": "a", "alpha": True}, "--alpha is true, expected a number"),
    ({"text": "a", "alpha": 3}, "--alpha is the picture's share"),
    ({"text": "a", "max_pixels": 1.5}, "--max-pixels is 1.5, expected a whole number"),
    ({"text": "a", "no_final_norm": 1}, "--no-final-norm is 1, expected true or false"),
    ({"text": "a", "layers": [1.5]}, "--layers is .1.5., expected text"),
    ({"text": "a", "layers": "two"}, "no choice of layers"),
    ({"text": "a", "fps": 10**400}, r"10*…, expected a number .at most 1e.30."),
    ({"text": "a", "target": "sdxl"}, "--target is 'sdxl'"),
    ({"alpha": 0.3}, "nothing to encode"),
    ({"text": "a", "text_file": "b"}, "text and text_file are both given"),
    ({"text_file": "none.txt"}, "no text file .*none.txt"),
    ({"system": "a", "system_file": "b", "text": "c"}, "system and system_file are both given"),
    ({"text": "a", "system_file": "none.txt"}, "no system prompt file .*none.txt"),
    ({"id": "a/b", "text": "a"}, "id 'a/b' cannot be a file's name"),
    ({"id": ".hidden", "text": "a"}, "cannot be a file's name"),
    ({"id": "dot.", "text": "a"}, "cannot be a file's name"),
    ({"id": "", "text": "a"}, "cannot be a file's name"),
    ({"id": "x" * 201, "text": "a"}, "cannot be a file's name"),
    ('{"id": "\\ud800", "text": "a"}', "cannot be a file's name"),
    ({"id": "NUL", "text": "a"}, "id 'NUL' cannot be a file's name"),
    ({"id": 7, "text": "a"}, "id is 7, expected text"),
    ({"id": "FIRST", "text": "a"}, "id 'FIRST' is that of line 1"),
    ('{"text": "a", "fps": ' + "9" * 5000 + "}", "not JSON"),
    ({"text": ["x" * 100_000]}, r"--text is \["),
]


@pytest.mark.parametrize(("line", "says"), BAD_LINES, ids=[says for _, says in BAD_LINES])
def test_bad_lines_are_named(write, line, says):
    file = write({"id": "first", "text": "a"}, "", line, {"text": "never read"})
    with pytest.raises(ValueError, match=says) as raised:
        read_jobs(file, Recipe(), MAKER)
    assert str(raised.value).startswith("Line 3 of jobs.jsonl: ") and len(str(raised.value)) < 700


def test_bad_files(write, tmp_path):
    with pytest.raises(FileNotFoundError, match="no jobs file"):
        read_jobs(tmp_path / "none.jsonl", Recipe(), MAKER)
    with pytest.raises(ValueError, match="holds no job"):
        read_jobs(write("", "  "), Recipe(), MAKER)
    (tmp_path / "latin.jsonl").write_bytes('{"text": "Häuser"}'.encode("latin-1"))
    with pytest.raises(ValueError, match="not text in UTF-8"):
        read_jobs(tmp_path / "latin.jsonl", Recipe(), MAKER)


def test_a_folder(tmp_path):
    for name in ("f10.png", "f9.PNG", "Müller.jpg", ".hidden.png", "notes.md"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "inside.png").mkdir()
    (tmp_path / "f9.txt").write_text("nine\n")
    jobs = list_jobs(tmp_path, Recipe(text="else", keep="image"), MAKER)
    assert [job.id for job in jobs] == ["Müller", "f9", "f10"]
    assert [job.recipe.text for job in jobs] == ["else", "nine", "else"]
    assert jobs[1].recipe.image == (str(tmp_path / "f9.PNG"),) and jobs[1].recipe.keep == "image"
    (tmp_path / "f9.txt").write_text("another")
    again = list_jobs(tmp_path, Recipe(text="else", keep="image"), MAKER)
    assert [a.digest == b.digest for a, b in zip(jobs, again, strict=True)] == [True, False, True]


def test_bad_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        list_jobs(tmp_path / "none", Recipe(), MAKER)
    with pytest.raises(ValueError, match="holds no picture"):
        list_jobs(tmp_path, Recipe(), MAKER)
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="a.png: id 'a' is that of a.jpg"):
        list_jobs(tmp_path, Recipe(), MAKER)
    (tmp_path / "a.jpg").rename(tmp_path / "b .jpg")
    with pytest.raises(ValueError, match="'b ' cannot be a file's name"):
        list_jobs(tmp_path, Recipe(), MAKER)
    (tmp_path / "b .jpg").unlink()
    (tmp_path / "a.txt").write_bytes("Häuser".encode("latin-1"))
    with pytest.raises(ValueError, match="a.png: .*not text in UTF-8"):
        list_jobs(tmp_path, Recipe(), MAKER)


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.jfif", None), ("d.jpe", None), ("b.jpg", "its own prompt"), ("both.png", "small letters")],
)
def test_names_that_cameras_and_browsers_give(tmp_path, name, text):
    (tmp_path / name).write_bytes(b"")
    if text:
        (tmp_path / f"{name[:-4]}.TXT").write_text("its own prompt")
    if name == "both.png":
        (tmp_path / "both.txt").write_text("small letters")
    (job,) = list_jobs(tmp_path, Recipe(text="default"), MAKER)
    assert (job.id, job.recipe.text) == (name.split(".")[0], text or "default")


def test_what_a_folder_leaves_out_is_named(tmp_path, caplog):
    for name in ("a.png", "a.txt", "e.jp2", "f.tga", "g.heic", "b.txt", ".hidden", "h.mp4"):
        (tmp_path / name).write_bytes(b"")
    list_jobs(tmp_path, Recipe(), MAKER)
    assert (
        f"5 files of {tmp_path} are left out: b.txt, e.jp2, f.tga, g.heic, h.mp4. " in caplog.text
    )
    for number in range(1000):
        (tmp_path / f"{number}.raw").write_bytes(b"")
    caplog.clear()
    list_jobs(tmp_path, Recipe(), MAKER)
    assert "1005 files" in caplog.text and "3.raw, 4.raw, ..." in caplog.text
    assert len(caplog.text) < 600


OUTSIDE = [
    {"image": "../secret.png"},
    {"image": ["in.png", "../secret.png"]},
    {"image": "link.png"},
    {"text_file": "../secret.txt"},
    {"system_file": "../secret.txt"},
    {"video": ".."},
    {"video": "."},  # with link.png among its frames
    {"video": ""},
    {"stats": "sub/../../s.safetensors"},
    {"text_file": "/etc/hostname"},
]


@pytest.mark.parametrize("line", OUTSIDE, ids=str)
def test_files_outside_are_refused_unless_allowed(tmp_path, line):
    place = tmp_path / "jobs"
    place.mkdir()
    for file in (tmp_path / "secret.png", tmp_path / "secret.txt", place / "in.png"):
        file.write_text("secret")
    (place / "link.png").symlink_to(tmp_path / "secret.png")
    file = place / "jobs.jsonl"
    file.write_text(
        json.dumps({"id": "one", "text": "a"} | line if "text_file" not in line else line)
    )
    with pytest.raises(
        ValueError, match="Line 1 of jobs.jsonl: .*lies outside of .*--root"
    ) as caught:
        read_jobs(file, Recipe(), MAKER)
    assert "secret" not in str(caught.value).replace("secret.", "")
    assert len(read_jobs(file, Recipe(), MAKER, allow_outside=True)) == 1
    wider = read_jobs(file, Recipe(), MAKER, root=tmp_path) if "/etc" not in str(line) else [1]
    assert len(wider) == 1


def test_files_inside_work_by_any_name(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "words.txt").write_text("words")
    file = tmp_path / "jobs.jsonl"
    names = ["words.txt", "./words.txt", "sub/../words.txt", str(tmp_path / "words.txt")]
    file.write_text("\n".join(json.dumps({"text_file": name}) for name in names))
    assert [job.recipe.text for job in read_jobs(file, Recipe(), MAKER)] == ["words"] * 4
    with pytest.raises(ValueError, match="lies outside of"):
        read_jobs(file, Recipe(), MAKER, root=tmp_path / "sub")
