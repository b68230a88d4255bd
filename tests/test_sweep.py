"""workflows/api/sweep.py against a ComfyUI that this file plays; the real one is in tests/host."""

from __future__ import annotations

import hashlib
import html.parser
import http.server
import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import pytest
from PIL import Image

API = Path(__file__).parents[1] / "workflows" / "api"
STYLE = API / "z-image-picture-style.json"


def _load(name):
    sys.path.insert(0, str(API))  # as Python does for a script
    spec = importlib.util.spec_from_file_location(name, API / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sweep = _load("sweep")
axes = importlib.import_module("sweeping.axes")
workflow = importlib.import_module("sweeping.workflow")


def png(text):
    """A picture whose colour tells texts apart."""
    drawn = io.BytesIO()
    Image.new("RGB", (48, 32), tuple(hashlib.sha256(text.encode()).digest()[:3])).save(drawn, "PNG")
    return drawn.getvalue()


PNG = png("")


class Comfy:
    """What the script asks of a ComfyUI.

    Attributes:
        prompts: the workflows that were queued.
        uploads: bodies of the uploads.
        posts: other paths that something was posted to.
        refusal: answer with HTTP 400 to the next workflow.
        failure: event of a node that fails in every run.
        pictures: how many pictures a run saves.
    """

    def __init__(self):
        self.prompts, self.uploads, self.posts = [], [], []
        self.refusal = self.failure = None
        self.pictures = 1

    def post(self, path, body):
        if path == "/upload/image":
            self.uploads.append(body)
            return 200, {"name": "cat (1).png", "subfolder": "", "type": "input"}
        if path != "/prompt":
            self.posts.append(path)
            return 200, {}
        if self.refusal is not None:
            return 400, self.refusal
        self.prompts.append(json.loads(body)["prompt"])
        return 200, {"prompt_id": str(len(self.prompts))}

    def get(self, path):
        if path.startswith("/view"):
            name = urllib.parse.parse_qs(path.partition("?")[2])["filename"][0]
            return png(name)
        number = path.rpartition("/")[2]
        images = [
            {"filename": f"{number}_{index}.png", "subfolder": "", "type": "output"}
            for index in range(self.pictures)
        ]
        images.append({"filename": "preview.png", "subfolder": "", "type": "temp"})
        messages = [] if self.failure is None else [["execution_error", self.failure]]
        entry = {"status": {"messages": messages}, "outputs": {"9": {"images": images}}}
        return json.dumps({number: entry}).encode()


@pytest.fixture
def comfy():
    played = Comfy()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(200, played.get(self.path))

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = played.post(self.path, body)
            self._answer(status, json.dumps(answer).encode())

        def _answer(self, status, body):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True).start()
    played.address = f"127.0.0.1:{server.server_port}"
    yield played
    server.shutdown()
    server.server_close()


def run(comfy, out, *words):
    return sweep.main([str(STYLE), "--server", comfy.address, "--out", str(out), *words])


def pictures(folder):
    return list(folder.glob("z-image*.png"))


def of_class(prompt, kind):
    return next(node["inputs"] for node in prompt.values() if node["class_type"] == kind)


def test_every_combination_becomes_a_picture(comfy, tmp_path, capsys):
    assert run(comfy, tmp_path, "--alpha", "0,0.3", "--layers", "-2,-8") == 0
    queued = [
        (
            of_class(prompt, "VLMCHiddenLayerSelect")["layers"],
            of_class(prompt, "VLMCAlphaBlend")["alpha"],
        )
        for prompt in comfy.prompts
    ]
    assert queued == [("-2", 0.0), ("-2", 0.3), ("-8", 0.0), ("-8", 0.3)]
    names = sorted(path.name for path in pictures(tmp_path))
    assert len(names) == 4
    assert names[0].startswith("z-image-picture-style_layers-2_alpha0.0_")
    assert all(path.read_bytes().startswith(PNG[:8]) for path in pictures(tmp_path))
    said = capsys.readouterr().out
    assert "4/4  layers -8  alpha 0.3" in said and "4 of 4 made" in said


def test_what_is_there_is_not_made_again(comfy, tmp_path, capsys):
    assert run(comfy, tmp_path, "--alpha=0,0.3") == 0
    next(tmp_path.glob("*alpha0.3*")).unlink()
    assert run(comfy, tmp_path, "--alpha=0,0.3") == 0
    assert len(comfy.prompts) == 3
    assert "there already" in capsys.readouterr().out
    # Other words are another picture, whatever its alpha.
    assert run(comfy, tmp_path, "--alpha=0,0.3", "--prompt", "a dog") == 0
    assert len(comfy.prompts) == 5


def test_all_pictures_of_a_run_are_kept(comfy, tmp_path):
    comfy.pictures = 3
    assert run(comfy, tmp_path, "--alpha=0.3") == 0
    assert [path.stem[-2:] for path in sorted(pictures(tmp_path))][1:] == ["_2", "_3"]


def test_words_picture_and_other_values(comfy, tmp_path):
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"pixels")
    words = ["--prompt", "a dog", "--image", str(picture)]
    words += ["--set", "KSampler.steps=4", "--set", "KSampler.sampler_name=euler"]
    assert run(comfy, tmp_path / "out", *words) == 0
    (prompt,) = comfy.prompts
    assert of_class(prompt, "PrimitiveStringMultiline")["value"] == "a dog"
    assert of_class(prompt, "LoadImage")["image"] == "cat (1).png"
    assert of_class(prompt, "KSampler")["steps"] == 4
    assert of_class(prompt, "KSampler")["sampler_name"] == "euler"
    assert b"pixels" in comfy.uploads[0] and b'filename="cat.png"' in comfy.uploads[0]


def test_words_without_a_primitive_go_to_all_that_had_them():
    prompt = {
        "1": {"class_type": "VLMCEncode", "inputs": {"prompt": "a cat", "system": ""}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "ugly"}},
    }
    sweep.set_words(prompt, "a dog")
    assert [next(iter(node["inputs"].values())) for node in prompt.values()] == [
        "a dog", "a dog", "ugly"
    ]  # fmt: skip


def wired(**inputs):
    """A VLM Encode whose prompt comes from another pack's node."""
    return {
        "1": {"class_type": "VLMCEncode", "inputs": {"prompt": ["2", 0]}},
        "2": {"class_type": "SomeNode", "inputs": inputs},
    }


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        ({"model": "llava", "prompt": "describe"}, "prompt"),
        ({"model": "llava", "seed": 3, "text": "describe"}, "text"),
        ({"value": "describe"}, "value"),
        ({"delimiter": ", ", "string": ""}, "string"),
        ({"text": ["3", 0], "value": "describe"}, "value"),
    ],
)
def test_words_over_a_wire_go_where_the_words_were(inputs, name):
    prompt = wired(**inputs)
    sweep.set_words(prompt, "a dog")
    assert prompt["2"]["inputs"] == {**inputs, name: "a dog"}
    assert prompt["1"]["inputs"] == {"prompt": ["2", 0]}


def test_words_through_a_node_that_passes_them_on():
    prompt = wired(model="llava", text=["3", 0])
    prompt["3"] = {"class_type": "PrimitiveString", "inputs": {"value": "describe"}}
    sweep.set_words(prompt, "a dog")
    assert prompt["3"]["inputs"] == {"value": "a dog"}
    assert prompt["2"]["inputs"] == {"model": "llava", "text": ["3", 0]}


@pytest.mark.parametrize(
    "inputs", [{}, {"image": ["3", 0]}, {"model": "llava"}, {"text": ["2", 0]}]
)
def test_a_wire_from_a_node_without_words_is_told(inputs):
    prompt = wired(**inputs)
    with pytest.raises(sweep.SweepError, match=r"wire from SomeNode \(node 2\).*--set SomeNode"):
        sweep.set_words(prompt, "a dog")
    assert prompt == wired(**inputs)


def test_a_wire_from_a_node_that_is_missing_is_told():
    prompt = {"1": {"class_type": "VLMCEncode", "inputs": {"prompt": ["7", 0]}}}
    with pytest.raises(sweep.SweepError, match=r"wire from node \(node 7\)"):
        sweep.set_words(prompt, "a dog")


# --- any input ----------------------------------------------------------------------------------


def test_any_input_is_an_axis(comfy, tmp_path, capsys):
    words = [
        "--axis",
        "KSampler.cfg=1,2.5",
        "--axis",
        "VLMCTokenFilter.keep=text,all",
        "--alpha=0.3",
    ]
    assert run(comfy, tmp_path, *words) == 0
    queued = [
        (of_class(p, "KSampler")["cfg"], of_class(p, "VLMCTokenFilter")["keep"])
        for p in comfy.prompts
    ]
    assert queued == [(1, "text"), (1, "all"), (2.5, "text"), (2.5, "all")]
    assert "3/4  alpha 0.3  cfg 2.5  keep text" in capsys.readouterr().out


TWO = {
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "a"}, "_meta": {"title": "Positive"}},
    "4": {"class_type": "CLIPTextEncode", "inputs": {"text": "b"}, "_meta": {"title": "No. 1.5"}},
    "5": {"class_type": "Encode", "inputs": {"images.image0": "x", "model": ["3", 0]}},
}


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        ("CLIPTextEncode.text", {"3": "text", "4": "text"}),
        ("CLIPTextEncode#4.text", {"4": "text"}),
        ("#3.text", {"3": "text"}),
        ("Positive.text", {"3": "text"}),
        ("No. 1.5.text", {"4": "text"}),
        ("Encode.images.image0", {"5": "images.image0"}),
    ],
)
def test_places(place, changed):
    prompt = json.loads(json.dumps(TWO))
    workflow.set_place(prompt, place, "new")
    for node, name in changed.items():
        assert prompt[node]["inputs"][name] == "new"
    rest = {key: one for key, one in prompt.items() if key not in changed}
    assert rest == {key: one for key, one in TWO.items() if key not in changed}


@pytest.mark.parametrize(
    "place", ["Encode.model", "Encode.seed", "Encode#3.text", "CLIPTextEncode#9.text", "Nobody.x"]
)
def test_places_that_are_none(place):
    prompt = json.loads(json.dumps(TWO))
    with pytest.raises(sweep.SweepError, match=r"The workflow has no .* to set "):
        workflow.set_place(prompt, place, "new")
    assert prompt == TWO


def test_axes_of_one_name_keep_their_nodes():
    made = axes.all_runs(TWO, [axes.parse_axis("#3.text=a,b"), axes.parse_axis("#4.text=c")])
    assert [each.words for each in made] == [["#3.text a", "#4.text c"], ["#3.text b", "#4.text c"]]
    with pytest.raises(sweep.SweepError, match=r"#3\.text is an axis twice"):
        axes.all_runs(TWO, [axes.parse_axis("#3.text=a"), axes.parse_axis("#3.text=b")])


def test_values_of_an_axis():
    assert axes.parse_axis("A.b=1,1.0,true, x ,1").values == (1, 1.0, True, "x")
    assert axes.parse_axis("A.b=a, b; c=d").values == ("a, b", "c=d")


def test_names_of_long_values_fit_a_file_system(comfy, tmp_path):
    words = "一只猫" * 60
    assert run(comfy, tmp_path, "--axis", f"PrimitiveStringMultiline.value={words}1;{words}2") == 0
    names = [path.name for path in pictures(tmp_path)]
    assert len(set(names)) == 2 and all(len(name.encode()) <= 200 for name in names)


class Page(html.parser.HTMLParser):
    """Tags of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_a_sheet_and_an_index_page(comfy, tmp_path):
    evil = "<script>alert('猫')</script>"
    words = ["--alpha", "0,0.3,0.5", "--layers=-2,-8", "--prompt", evil]
    assert run(comfy, tmp_path, *words) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 48 and sheet.height > 2 * 32
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(100_000)}
    made = {Image.open(path).convert("RGB").getpixel((0, 0)) for path in pictures(tmp_path)}
    assert len(made) == 6 and made <= colours
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert "script" not in [tag for tag, _ in page.tags]
    assert evil in page.text and "alpha 0.3" in page.text and "layers -8" in page.text
    linked = [urllib.parse.unquote(found["src"]) for tag, found in page.tags if tag == "img"]
    assert sorted(linked) == sorted(path.name for path in pictures(tmp_path))
    assert sum(tag == "tr" for tag, _ in page.tags) == 3


def test_after_a_stop_the_pages_show_what_is_there(comfy, tmp_path, monkeypatch):
    """Killed in the third picture, started again: only what was missing is made."""
    runs, old = [], sweep.Server.run

    def stopping(server, prompt):
        runs.append(prompt)
        if len(runs) == 3:
            raise KeyboardInterrupt
        return old(server, prompt)

    monkeypatch.setattr(sweep.Server, "run", stopping)
    assert run(comfy, tmp_path, "--alpha=0,0.1,0.2,0.3") == 130
    before = {path: path.stat().st_mtime_ns for path in pictures(tmp_path)}
    assert len(before) == 2 and not list(tmp_path.glob("*.part"))
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert sum(tag == "img" for tag, _ in page.tags) == 2 and "alpha 0.3" in page.text
    small = Image.open(tmp_path / "sheet.png").width
    assert run(comfy, tmp_path, "--alpha=0,0.1,0.2,0.3") == 0
    assert len(comfy.prompts) == 4 and len(pictures(tmp_path)) == 4
    assert all(path.stat().st_mtime_ns == made for path, made in before.items())
    assert Image.open(tmp_path / "sheet.png").width > small


def test_a_picture_that_was_cut_short_is_not_there(tmp_path, comfy, monkeypatch):
    """Killed while it writes: the file has another name until it is whole."""
    monkeypatch.setattr(os, "replace", lambda source, place: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(comfy, tmp_path, "--alpha=0")
    assert not pictures(tmp_path)


def test_without_pillow_there_is_a_page_and_a_sentence(comfy, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(globals(), "png", lambda _: PNG)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert run(comfy, tmp_path, "--alpha=0,0.3") == 0
    assert "Install Pillow" in capsys.readouterr().err
    assert (tmp_path / "index.html").exists() and not (tmp_path / "sheet.png").exists()


def test_needs_nothing_of_the_library(tmp_path):
    """A script on another machine: no torch, no transformers; Pillow for the sheet."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import sweep, sweeping.pages as pages; "
        "pages._contact_sheet(); print({'torch', 'transformers', 'vlm'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(API)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_lists():
    assert axes.parse_list("-2, -8,-2") == ["-2", "-8"]
    assert axes.parse_list("-2; -2:0.7, -8:0.3; 9,18,27") == ["-2", "-2:0.7, -8:0.3", "9,18,27"]
    assert axes.parse_list("") == []


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--alpha", "a lot"], "write numbers, such as"),
        (["--set", "KSampler"], "write CLASS.INPUT=VALUE"),
        (["--axis", "KSampler.cfg"], "write CLASS.INPUT=VALUES"),
        (["--axis", "KSampler.cfg="], "there are no values"),
        (["--axis", "KSampler.speed=1,2"], "no KSampler to set speed on"),
        (["--axis", "KSampler#99.cfg=1,2"], "no KSampler#99 to set cfg on"),
        (["--set", "Sampler.steps=4"], "no Sampler to set steps on: it has CLIPLoader"),
        (["--set", "KSampler.speed=4"], "no KSampler to set speed on"),
        (["--set", "KSampler.model=4"], "or a wire feeds it"),
        (["--image", "nowhere.png"], "nowhere.png cannot be read"),
    ],
)
def test_wrong_words_are_said_in_words(comfy, tmp_path, capsys, words, part):
    assert run(comfy, tmp_path, *words) == 1
    said = capsys.readouterr().err
    assert part in said and "Traceback" not in said
    assert not comfy.prompts


def test_a_refusal_names_node_and_widget(comfy, tmp_path, capsys):
    detail = "'x' is no choice of layers."
    twice = [
        {"message": "Custom validation failed for node", "details": f"{name} - {detail}"}
        for name in ("layers", "combine")
    ]
    comfy.refusal = {
        "error": {"message": "Prompt outputs failed validation"},
        "node_errors": {"8": {"errors": twice}},
    }
    assert run(comfy, tmp_path, "--layers", "x") == 1
    said = capsys.readouterr().err
    assert "Prompt outputs failed validation" in said
    assert said.count(detail) == 1 and "Hidden Layer Select (node 8)" in said


def test_a_node_that_fails_is_named(comfy, tmp_path, capsys):
    comfy.failure = {"node_id": "8", "exception_message": "Layer -90 does not exist."}
    assert run(comfy, tmp_path) == 1
    assert "Hidden Layer Select (node 8): Layer -90 does not exist." in capsys.readouterr().err


def test_a_workflow_without_save_image(comfy, tmp_path, capsys):
    comfy.pictures = 0
    assert run(comfy, tmp_path) == 1
    assert "needs a Save Image node" in capsys.readouterr().err


def test_cancel_takes_the_run_out_of_the_queue(comfy, tmp_path, capsys, monkeypatch):
    def cancel(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep.time, "sleep", cancel)
    monkeypatch.setattr(comfy, "get", lambda path: b"{}")
    assert run(comfy, tmp_path) == 130
    assert comfy.posts == ["/queue", "/interrupt"]
    assert "Run the same command again" in capsys.readouterr().err


def test_no_server(tmp_path, capsys):
    assert sweep.main([str(STYLE), "--server", "127.0.0.1:1", "--out", str(tmp_path)]) == 1
    assert "No ComfyUI answers at http://127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "part"),
    [('{"nodes": []}', "Export (API)"), ("[1]", "Export (API)"), ("{", "cannot be read as JSON")],
)
def test_files_that_are_no_api_workflow(tmp_path, capsys, content, part):
    path = tmp_path / "flow.json"
    path.write_text(content, encoding="utf-8")
    assert sweep.main([str(path)]) == 1
    assert part in capsys.readouterr().err
    assert sweep.main([str(tmp_path / "none.json")]) == 1
    assert "There is no workflow" in capsys.readouterr().err


def test_runs_as_a_script_and_teaches(tmp_path):
    done = subprocess.run(
        [sys.executable, str(API / "sweep.py"), "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert "--alpha" in done.stdout and "examples:" in done.stdout


@pytest.mark.parametrize("path", sorted(API.glob("*.json")), ids=lambda path: path.stem)
def test_every_workflow_takes_what_it_has_a_place_for(path):
    prompt = sweep.load_prompt(path)
    there = {node["class_type"] for node in prompt.values()}
    for kinds, name, value in (
        (("LoadImage",), "image", "cat.png"),
        (*axes.PLACES["layers"], "-4"),
        (*axes.PLACES["alpha"], 0.7),
    ):
        if there & set(kinds):
            sweep.set_values(prompt, kinds, name, value)
            assert value in [node["inputs"].get(name) for node in prompt.values()]
        else:
            with pytest.raises(sweep.SweepError, match=f"no {kinds[0]}.* to set {name} on"):
                sweep.set_values(prompt, kinds, name, value)
    if there & set(workflow.ENCODERS):
        sweep.set_words(prompt, "a dog")
        assert "a dog" in json.dumps(prompt)
        assert all(node["inputs"].get("target") != "a dog" for node in prompt.values())
    else:
        with pytest.raises(sweep.SweepError, match="no VLM Encode"):
            sweep.set_words(prompt, "a dog")


# --- gallery.py: pictures that `python -m vlm evaluate` measures ----------------------------------

gallery = _load("gallery")
SETTINGS = [
    "--setting", "weak: VLMCAlphaBlend.alpha=0.1",
    "--setting", "strong: VLMCAlphaBlend.alpha=0.5; VLMCHiddenLayerSelect.layers=-6",
]  # fmt: skip


@pytest.fixture
def cases(tmp_path):
    """Two cases: one with a reference and seeds of its own, one with words alone."""
    Image.new("RGB", (16, 16), "red").save(tmp_path / "boat.png")
    lines = [
        {"name": "boat", "prompt": "a boat", "reference": "boat.png", "seeds": [7, 8]},
        {"name": "dog", "prompt": "a dog"},
    ]
    file = tmp_path / "cases.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return file


def make_gallery(comfy, cases, *words):
    more = [*SETTINGS, "--server", comfy.address, "--out", str(cases.parent / "out"), *words]
    return gallery.main([str(STYLE), str(cases), *more])


def test_a_gallery_is_what_evaluate_pairs(comfy, cases, capsys):
    from vlm.evaluate.cases import read_cases
    from vlm.evaluate.results import find_results

    assert make_gallery(comfy, cases, "--seeds", "1") == 0
    queued = [
        (
            of_class(p, "VLMCAlphaBlend")["alpha"],
            of_class(p, "PrimitiveStringMultiline")["value"],
            of_class(p, "LoadImage")["image"],
            of_class(p, "KSampler")["seed"],
        )
        for p in comfy.prompts
    ]
    of_one = [
        ("a boat", "cat (1).png", 7),
        ("a boat", "cat (1).png", 8),
        ("a dog", "example.png", 1),
    ]
    assert queued == [(alpha, *each) for alpha in (0.1, 0.5) for each in of_one]
    assert [of_class(p, "VLMCHiddenLayerSelect")["layers"] for p in comfy.prompts[2:4]] == [
        "auto", -6
    ]  # fmt: skip
    known = read_cases(cases)
    for name in ("weak", "strong"):
        setting, notes = find_results(name, cases.parent / "out" / name, known)
        assert set(setting.files) == {("boat", "7"), ("boat", "8"), ("dog", "1")}
        assert notes == []
    assert "vlm evaluate weak=" in capsys.readouterr().out


def test_a_gallery_goes_on_and_knows_what_changed(comfy, cases):
    assert make_gallery(comfy, cases) == 0
    assert make_gallery(comfy, cases) == 0
    assert len(comfy.prompts) == 6
    (cases.parent / "out" / "weak" / "dog_1.png").unlink()
    cases.write_text(cases.read_text(encoding="utf-8").replace("a boat", "a ship"), "utf-8")
    assert make_gallery(comfy, cases) == 0
    assert len(comfy.prompts) == 6 + 1 + 4


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Line 1 of cases.jsonl is not JSON"),
        ('{"prompt": "x"}', "no name that a file could have"),
        ('{"name": "a", "seeds": [true]}', "seeds whole numbers"),
        ('{"name": "a", "reference": "../x.png"}', "lies outside"),
        ('{"name": "a"}\n{"name": "A"}', "was there before"),
        ("", "holds no case"),
    ],
)
def test_cases_of_a_gallery_that_cannot_be(comfy, cases, capsys, line, said):
    cases.write_text(line, encoding="utf-8")
    assert make_gallery(comfy, cases) == 1
    assert said in capsys.readouterr().err
    assert comfy.prompts == []


def test_a_gallery_takes_one_picture_a_seed(comfy, cases, capsys):
    comfy.pictures = 2
    assert make_gallery(comfy, cases) == 1
    assert "saved 2 pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "x"], "write whole numbers"),
        (["--setting", "weak: KSampler.cfg=2"], "Two settings have one name"),
        (["--setting", "../a: KSampler.cfg=2"], "cannot be the name of a folder"),
        (["--setting", "a: alpha"], "write NAME: NODE.INPUT=VALUE"),
        (["--setting", "a: Nothing.alpha=2"], "has no Nothing"),
    ],
)
def test_options_of_a_gallery_that_cannot_be(comfy, cases, capsys, words, said):
    assert make_gallery(comfy, cases, *words) == 1
    assert said in capsys.readouterr().err
    assert comfy.prompts == []
