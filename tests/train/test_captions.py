"""Captions from text, JSON Lines, Parquet and WebDataset, and what is said of bad ones."""

import io
import json
import tarfile

import pytest

from vlm.train.captions import Captions, digest_of

pa = pytest.importorskip("pyarrow")
WORDS = ["a red house", "two dogs 日本", "three"]


def write_text(folder):
    file = folder / "captions.txt"
    file.write_text("a red house\n\n  two dogs 日本 \nthree\n", encoding="utf-8")
    return file, "caption"


def write_jsonl(folder):
    file = folder / "captions.jsonl"
    lines = [json.dumps({"id": i, "prompt": text}) for i, text in enumerate(WORDS)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file, "prompt"


def write_parquet(folder):
    from pyarrow import parquet

    file = folder / "captions.parquet"
    parquet.write_table(pa.table({"caption": WORDS, "other": [1, 2, 3]}), file)
    return file, "caption"


def write_tar(folder, inside=False):
    file = folder / "captions.tar"
    with tarfile.open(file, "w") as tar:
        for number, text in enumerate(WORDS):
            for ending, content in (("txt", text), ("json", json.dumps({"caption": text}))):
                data = content.encode()
                info = tarfile.TarInfo(f"{number:03}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return file, "json.caption" if inside else "txt"


WRITERS = {
    "text": write_text,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
    "webdataset": write_tar,
    "json inside webdataset": lambda folder: write_tar(folder, inside=True),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_reads(tmp_path, kind):
    file, key = WRITERS[kind](tmp_path)
    assert [caption.text for caption in Captions(file, key).read()] == WORDS
    assert [caption.text for caption in Captions(tmp_path, key).read()] == WORDS


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    for number in (10, 9):
        (tmp_path / f"part{number}.txt").write_text(f"from {number}\n")
    (tmp_path / "LICENSE").write_text("mine")
    assert [caption.text for caption in Captions(tmp_path).read()] == ["from 9", "from 10"]


def test_the_digest_knows_words_and_order(tmp_path):
    file, _ = write_text(tmp_path)
    captions = list(Captions(file).read())
    assert digest_of(captions) == digest_of(Captions(file).read())
    assert digest_of(captions) != digest_of(captions[::-1])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"caption": "a"}, {"caption": None}], "caption 2 of captions.jsonl is no text"),
        ([{"caption": "a"}, {"caption": " "}], "caption 2 of captions.jsonl is 1 characters"),
        ([{"caption": 5}], "caption 1 of captions.jsonl is no text"),
        ([{"prompt": "a", "id": 1}], "has no caption, it has 'prompt', 'id'"),
    ],
)
def test_a_bad_caption_is_named(tmp_path, rows, said):
    file = tmp_path / "captions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=said):
        list(Captions(file).read())


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_a_file_that_was_cut_short_is_named(tmp_path, kind):
    file, key = WRITERS[kind](tmp_path)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2 - 100] if kind == "parquet" else data[:700])
    with pytest.raises(ValueError, match=f"{file.name} cannot be read as {kind}"):
        list(Captions(file, key).read())


def test_json_that_is_none_is_named(tmp_path):
    file = tmp_path / "captions.jsonl"
    file.write_text('{"caption": "a"}\n{"caption": \n')
    with pytest.raises(ValueError, match=r"captions.jsonl cannot be read as json"):
        list(Captions(file).read())


def test_nothing_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="There are no captions at"):
        Captions(tmp_path / "none.txt")
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(ValueError, match="holds no captions. They are read from .txt"):
        Captions(tmp_path)
    with pytest.raises(ValueError, match="holds no captions"):
        Captions(tmp_path / "a.csv")
    (tmp_path / "a.txt").write_text("\n \n")
    with pytest.raises(ValueError, match="holds no caption"):
        list(Captions(tmp_path / "a.txt").read())
    (tmp_path / "b.jsonl").write_text("{}")
    with pytest.raises(ValueError, match="files of one kind"):
        Captions(tmp_path)
