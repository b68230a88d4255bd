"""Pictures where the words name them, and conversations, from the command line and from jobs."""

import hashlib
import json
from dataclasses import asdict

import pytest
import torch
from rounding import rounding

import vlm
from vlm import cli
from vlm.batch.encode import encode_jobs
from vlm.batch.jobs import Provenance, read_jobs
from vlm.batch.recipe import Recipe
from vlm.batch.turns import read_turns
from vlm.conditioning.file import load_about, load_conditioning
from vlm.pictures.media_files import read_picture
from vlm.tiny.folder import write_tiny

MAKER = Provenance("short")
TEXT = "<image1> in the light of <image2>"
TURNS = [
    {"role": "user", "text": "what is <image1>?", "image": "boat.png", "fps": None},
    {"role": "assistant", "text": "a boat"},
]
USER, ANSWER = TURNS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model of 10 decoder layers, so that -8 exists and runs are short."""
    return write_tiny(tmp_path_factory.mktemp("models") / "short", layers=10)


@pytest.fixture
def place(tmp_path, picture):
    (tmp_path / "talk").mkdir()
    for number, name in enumerate(("wide.png", "tall.png", "boat.png", "talk/boat.png")):
        picture(64 + 32 * number, 96, min(number, 2)).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def expected(folder, place):
    """The library's way, prompt and conversation with pictures where they are named."""
    wide, tall, boat = (read_picture(place / f"{name}.png") for name in ("wide", "tall", "boat"))
    talk = vlm.Conversation().user("what is <image1>?", [boat]).assistant("a boat")
    h = vlm.load(folder).encode(
        TEXT, [wide, tall], placed=True, conversation=talk, target="z-image"
    )
    return vlm.filter_tokens(vlm.select_layers(h), keep="all")


def encode(folder, place, *words, code=0):
    out = place / "out.safetensors"
    assert cli.main(["encode", "--model", str(folder), "--out", str(out), *words]) == code
    return load_conditioning(out)[0].tokens if code == 0 else None


def lines_of(place, *lines):
    (place / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return place / "jobs.jsonl"


def test_the_command_equals_the_library(folder, place, expected, monkeypatch):
    (place / "boat.png").rename(place / "talk" / "boat.png")  # paths start at the list
    (place / "talk" / "turns.json").write_text(json.dumps(TURNS), encoding="utf-8")
    monkeypatch.chdir(place)
    given = ("--image", "wide.png", "--image", "tall.png", "--placed", "--keep", "all")
    talk = ("--conversation", "talk/turns.json", "--report", "report.png")
    made = encode(folder, place, "--text", TEXT, *given, *talk)
    assert torch.equal(made.states, expected.states)
    assert made.token_map == expected.token_map and set(made.token_map["image"]) == {-1, 0, 1, 2}
    about = load_about(place / "out.safetensors")
    assert about["placed"] and tuple(about["conversation"][0]["image"]) == ("boat.png",)
    assert (place / "report.png").stat().st_size
    without = encode(folder, place, "--text", TEXT, *given)
    assert without.n < made.n and "conversation" not in load_about(place / "out.safetensors")


def test_a_job_equals_the_library(folder, place, expected, err):
    (place / "boat.png").replace(place / "talk" / "boat.png")
    inside = [{**USER, "image": ["talk/boat.png"]}, ANSWER]
    (place / "talk" / "turns.json").write_text(json.dumps(TURNS), encoding="utf-8")
    same = {"text": TEXT, "image": ["wide.png", "tall.png"], "placed": True, "keep": "all"}
    file = lines_of(
        place,
        {"id": "list", **same, "conversation": inside},
        {"id": "file", **same, "conversation": "talk/turns.json"},
        {"id": "none", **same},
    )
    jobs = read_jobs(file, Recipe(), MAKER)
    assert len({job.digest for job in jobs}) == 3
    outcomes = encode_jobs(vlm.load(folder), jobs, (), place, MAKER)
    assert [outcome.error for outcome in outcomes] == ["", "", ""]
    for name in ("list", "file"):
        (entry,) = load_conditioning(place / f"{name}.safetensors")
        # What was read before is reused: other shapes, another last bit.
        assert err(entry.tokens.states, expected.states) <= rounding(10)


def test_names_are_no_words_of_the_reference(folder, place):
    given = ("--image", str(place / "wide.png"), "--alpha", "0")
    named = encode(folder, place, "--text", "a <image1> house", "--placed", *given)
    plain = encode(folder, place, "--text", "a house", *given)
    assert torch.equal(named.states, plain.states)


def test_a_job_without_them_keeps_its_digest(place):
    (job,) = read_jobs(lines_of(place, {"text": "a"}), Recipe(), MAKER)
    facts = asdict(Recipe(text="a"))
    for later in ("placed", "conversation", "audio", "audio_in_video"):
        del facts[later]
    text = json.dumps([facts, asdict(MAKER)], sort_keys=True)
    assert job.digest == hashlib.sha256(text.encode()).hexdigest()


BAD_TURNS = [
    ("boat", "a list of turns"),
    ({"role": "user"}, "a list of turns"),
    (["a"], "Turn 1 of the conversation is no object"),
    ([ANSWER, USER], "Turn 1 of the conversation is the assistant's, and a conversation begins"),
    ([USER, USER], "Turn 2 of the conversation is the user's, and they take turns"),
    ([USER, ANSWER, ANSWER], "Turn 3 of the conversation is the assistant's"),
    ([USER], "ends with a turn of the user that nobody answered"),
    ([{"role": "system", "text": "a"}], "has the role 'system'"),
    ([{"text": "a"}], "has the role None"),
    ([{**USER, "content": "a"}, ANSWER], "has the key 'content'"),
    ([{**USER, "image": [5]}, ANSWER], "image is a file or a list of files"),
    ([{**USER, "text": 5}, ANSWER], "text is 5, expected text"),
    ([{**USER, "fps": "4"}, ANSWER], "fps is '4', expected a number"),
    ([USER, {**ANSWER, "image": "a.png"}], "is an answer, which is words alone"),
    ([{**USER, "audio": 5}, ANSWER], "audio is a file or a list of files"),
    ([{**USER, "audio_in_video": "yes"}, ANSWER], "audio_in_video is 'yes', expected true or"),
    ([USER, {**ANSWER, "audio": "a.wav"}], "is an answer, which is words alone"),
    ([USER, {**ANSWER, "text": " "}], "Turn 2 of the conversation says nothing"),
    ([{"role": "user"}, ANSWER], "Turn 1 of the conversation says nothing"),
]


@pytest.mark.parametrize(("turns", "says"), BAD_TURNS, ids=[says for _, says in BAD_TURNS])
def test_what_is_no_conversation(turns, says):
    with pytest.raises(ValueError, match=says) as raised:
        read_turns(turns)
    assert len(str(raised.value)) < 400


BAD_LINES = [
    ({"text": "<image9>", "placed": True, "image": "wide.png"}, "The words name <image9>"),
    ({"text": "a", "placed": True, "conversation": [{**USER, "text": "<image2>"}, ANSWER]},
     "The words name <image2>, and one picture comes"),
    ({"text": "a", "placed": 1}, "--placed is 1, expected true or false"),
    ({"text": "a", "conversation": "none.json"}, "There is no text file"),
    ({"text": "a", "conversation": "wide.png"}, "not text in UTF-8"),
    ({"text": "a", "conversation": "bad.json"}, "bad.json is not JSON"),
    ({"text": "a", "conversation": "../talk.json"}, "conversation is '../talk.json', which lies"),
    ({"text": "a", "conversation": [{**USER, "image": "/etc/x.png"}, ANSWER]},
     "A file of the conversation is '/etc/x.png', which lies outside"),
    ({"conversation": TURNS}, "nothing to encode"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "says"), BAD_LINES, ids=[says for _, says in BAD_LINES])
def test_bad_lines_are_named(place, line, says):
    (place / "bad.json").write_text("[{", encoding="utf-8")
    with pytest.raises(ValueError, match=says) as raised:
        read_jobs(lines_of(place, line), Recipe(), MAKER)
    assert str(raised.value).startswith("Line 1 of jobs.jsonl: ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--text", "<image9>", "--placed"), "The words name <image9>, and no picture comes"),
        (("--text", "a", "--conversation", "none.json"), "There is no text file none.json"),
        (("--text", "a", "--conversation", "first.json"), "begins with the user"),
        (("--text", "a", "--conversation", "lost.json"), "There is no picture"),
        # Qwen3-VL's turns, for a model that is not asked in turns.
        (("--text", "a", "--conversation", "turns.json", "--target", "minimax-h3"), "has no turns"),
    ],
)
def test_errors_take_one_line(folder, place, monkeypatch, capsys, words, says):
    monkeypatch.chdir(place)
    lost = [{**USER, "image": "lost.png"}, ANSWER]
    for name, turns in (("first", [ANSWER]), ("lost", lost), ("turns", TURNS)):
        (place / f"{name}.json").write_text(json.dumps(turns), encoding="utf-8")
    encode(folder, place, *words, code=2)
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and says in said.err
