"""workflows/api/sweep.py against a ComfyUI that the tests play; the real one is in tests/host."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
from played_comfy import API, PNG, STYLE, load, of_class, pictures, words_for

sweep = load("sweep")
axes = importlib.import_module("sweeping.axes")
workflow = importlib.import_module("sweeping.workflow")


def run(comfy, out, *words):
    return sweep.main(words_for(comfy, out, *words))


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
