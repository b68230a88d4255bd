"""Fetching a pinned model from a Hub that the test plays: what comes, goes on, is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from played_hub import REPO, as_json, folder_files, pin_of, playing

from vlm.download.fetch import fetch
from vlm.download.pins import PARTS, pins

ROOT = Path(__file__).resolve().parents[2]
# A process of its own: huggingface_hub reads HF_ENDPOINT once.
PROGRAM = """
import json, sys, threading
from pathlib import Path
from vlm.download.fetch import fetch
from vlm.download.pins import read_pins
pin = next(iter(read_pins(Path(sys.argv[1])).values()))
cancel_at = int(sys.argv[3])
class Cancelled(Exception):
    pass
def report(done, total, line):
    print(json.dumps([done, total, line]), flush=True)
    if cancel_at and done >= cancel_at:
        raise Cancelled
try:
    print(json.dumps(["fetched", fetch(pin, Path(sys.argv[2]), report)]), flush=True)
except Cancelled:
    print(json.dumps(["cancelled", sum(t.name.startswith("fetch") for t in threading.enumerate())]))
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
MIB = 1024**2


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A small VLM as a repository has it, with one file that is large enough to be cut off."""
    from vlm.tiny.folder import write_tiny

    folder = write_tiny(tmp_path_factory.mktemp("hub") / "tiny", "qwen3_vl", 64, 2)
    return folder_files(folder) | {"notes.txt": os.urandom(25 * MIB)}


@pytest.fixture
def hub(files):
    with playing(dict(files)) as played:
        yield played


class Run:
    """A process that fetches."""

    def __init__(self, url: str, pin, place: Path, cancel_at: int = 0, **env: str):
        file = place.parents[2] / "pins.json"
        file.write_text(json.dumps(as_json(pin)), encoding="utf-8")
        drop = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN")
        own = {key: value for key, value in os.environ.items() if key not in drop}
        own |= {"HF_ENDPOINT": url, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "*"} | env
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(file), str(place), str(cancel_at)],
            cwd=ROOT, env=own, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def result(self) -> tuple[str, str | int, list[list]]:
        """(what came of it, its number or text, the reports)."""
        output, _ = self.process.communicate(timeout=120)
        lines = [json.loads(line) for line in output.splitlines()]
        return *lines[-1], lines[:-1]


@pytest.fixture
def place(tmp_path) -> Path:
    return tmp_path / "models" / "VLM" / "Small-VLM"


def test_what_comes_is_the_model(hub, files, place):
    import vlm

    pin = pin_of(files)
    assert pin.to_come(place) == sum(map(len, files.values()))
    what, size, reports = Run(hub.url, pin, place).result()
    assert (what, size) == ("fetched", pin.size)
    assert folder_files(place) == files and not (place / PARTS).exists()
    done, total = reports[-1][:2]
    assert total == pin.size and 0 <= done <= total
    assert vlm.load(place, dtype="float32").encode("a house").layer(-1).shape[-1] == 64
    # Nothing but these files was asked for, each looked at once and fetched once.
    want = {f"/{REPO}/resolve/{pin.revision}/{file.path}" for file in pin.files}
    for method in ("HEAD", "GET"):
        assert sorted(path for how, path, _ in hub.asked if how == method) == sorted(want)
    hub.asked.clear()
    assert Run(hub.url, pin, place).result()[:2] == ("fetched", 0)
    assert hub.asked == []  # it is there: nothing is asked


@pytest.mark.parametrize("how", ["kill", "cancel"])
def test_it_goes_on_where_it_stopped(hub, files, place, how):
    pin = pin_of(files)
    hub.stop_at["notes.txt"] = 22 * MIB
    run = Run(hub.url, pin, place, cancel_at=20 * MIB if how == "cancel" else 0)
    if how == "kill":
        hub.wait_until("notes.txt", 22 * MIB)
        part = pin.part(place, next(file for file in pin.files if file.path == "notes.txt"))
        while not part.exists() or part.stat().st_size < 20 * MIB:
            threading.Event().wait(0.02)
        run.process.kill()
        run.process.communicate(timeout=60)
    else:  # while the server stands still, too
        assert run.result()[0] == "cancelled"
    assert not (place / "config.json").exists()  # the folder is no model yet
    came = pin.size - pin.to_come(place)
    assert came >= 20 * MIB
    hub.go_on.set()
    hub.asked.clear()
    assert Run(hub.url, pin, place).result()[0] == "fetched"
    ranges = [asked for method, path, asked in hub.asked if method == "GET" and "notes" in path]
    assert len(ranges) == 1 and int(ranges[0].strip("bytes=-")) >= 20 * MIB
    assert folder_files(place) == files


def test_a_connection_that_breaks_is_taken_up(hub, files, place):
    hub.broken["notes.txt"] = 15 * MIB
    pin = pin_of(files)
    assert Run(hub.url, pin, place).result()[:2] == ("fetched", pin.size)
    assert folder_files(place) == files


def test_two_at_once_fetch_once(hub, files, place):
    pin = pin_of(files)
    hub.stop_at["notes.txt"] = 12 * MIB
    first = Run(hub.url, pin, place)
    hub.wait_until("notes.txt", 12 * MIB)
    second = Run(hub.url, pin, place)
    while "waits for another download" not in second.process.stdout.readline():
        pass
    hub.go_on.set()
    assert first.result()[:2] == ("fetched", pin.size)
    assert second.result()[0] == "fetched"
    assert folder_files(place) == files
    assert sum(method == "GET" for method, _, _ in hub.asked) == len(files)


def test_what_is_not_the_pinned_file_is_refused(hub, files, place):
    """Told before it is fetched where the Hub tells, and by its bytes where it does not."""
    pin = pin_of(files)
    hub.files["notes.txt"] = files["notes.txt"][:-1]
    what, text, _ = Run(hub.url, pin, place).result()
    assert what == "ValueError" and f"{25 * MIB - 1} bytes" in text and "Nothing of it" in text
    hub.files["notes.txt"] = files["notes.txt"][:-1] + b"?"
    what, text, _ = Run(hub.url, pin, place).result()
    assert what == "ValueError" and "with the checksum" in text
    hub.headers_of = {"X-Linked-Etag": '"0123"'}
    what, text, _ = Run(hub.url, pin, place).result()
    assert what == "ValueError" and "its checksum is another one" in text
    assert not (place / "notes.txt").exists() and not list((place / PARTS).glob("*.part"))
    hub.headers_of = {"X-Repo-Commit": "f" * 40}
    what, text, _ = Run(hub.url, pin, place).result()
    assert what == "ValueError" and "the revision ffffffffffff" in text
    hub.headers_of = {}
    hub.files["notes.txt"] = files["notes.txt"]
    assert Run(hub.url, pin, place).result()[0] == "fetched"
    assert folder_files(place) == files


def test_what_the_hub_does_not_give(hub, files, place):
    pin = pin_of(files)
    del hub.files["notes.txt"]
    what, text, _ = Run(hub.url, pin, place).result()
    assert what == "FileNotFoundError" and "status 404" in text and "by hand" in text
    hub.status = 401
    what, text, _ = Run(hub.url, pin, place).result()
    assert what == "FileNotFoundError" and "status 401" in text
    hub.status = 418
    what, text, _ = Run(hub.url, pin, place).result()
    assert what == "ConnectionError" and "status 418" in text and "kept" in text


def test_no_hub_and_no_leave(files, place):
    with playing({}) as gone:
        url = gone.url
    pin = pin_of(files)
    what, text, _ = Run(url, pin, place).result()
    assert what == "ConnectionError" and "cannot be reached" in text
    what, text, _ = Run(url, pin, place, HF_HUB_OFFLINE="1").result()
    assert what == "ConnectionError" and "HF_HUB_OFFLINE" in text


def test_no_room(hub, files, place, monkeypatch):
    module = sys.modules[fetch.__module__]
    pin = pin_of(files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    free = pin.size + module.ROOM_LEFT - 1
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    place.parent.mkdir(parents=True)
    with pytest.raises(OSError, match=r"needs 2\d\.\d MB more.*Make room"):
        fetch(pin, place, lambda *_: None)
    assert hub.asked == [] and not place.exists()


def test_a_whole_model_of_that_name_is_left_alone(hub, place):
    """A re-sharded copy, or a toy: whatever its sizes are, it is somebody's choice."""
    from vlm.tiny.folder import write_tiny

    write_tiny(place, "qwen3_vl", 64, 2)
    before = folder_files(place)
    pin = next(iter(pins().values()))
    assert pin.lacking(place) == [] and fetch(pin, place, lambda *_: None) == 0
    (place / "model.safetensors").write_bytes(before["model.safetensors"][:-5])
    assert len(pin.lacking(place)) == len(pin.files)  # cut short: no model


def test_a_single_file(hub, files, place):
    content = files["model.safetensors"]
    hub.files["split/weights.safetensors"] = content
    pin = pin_of({"split/weights.safetensors": content}, "text_encoders/weights.safetensors")
    place = place.parent / "weights.safetensors"
    assert Run(hub.url, pin, place).result()[:2] == ("fetched", len(content))
    assert folder_files(place.parent) == {"weights.safetensors": content}
    assert not (place.parent / PARTS).exists()
    assert pin.lacking(place) == []


def test_the_pins_are_what_readme_recommends():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, pin in pins().items():
        row = next(line for line in readme.splitlines() if f"`{name}" in line)
        assert pin.repo in row, row
        assert len(pin.revision) == 40 and pin.name.split("/")[0] in ("VLM", "text_encoders")
        endings = {file.name.rpartition(".")[2] for file in pin.files}
        assert endings <= {"safetensors", "json", "txt"}
        assert all(len(file.sha256) == 64 and file.size > 0 for file in pin.files)
        names = [file.name for file in pin.files]
        assert len(set(names)) == len(names) and all(".." not in file.path for file in pin.files)
        assert not pin.is_folder or names[-1] == "config.json"
