"""Save and Load VLM Conditioning in a real ComfyUI: there, back again, and what is refused."""

from __future__ import annotations

import io
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch
from graphs import Prompt, node
from pack_graphs import conditioning, dump, sampled, seen, through_filter
from PIL import Image
from refusals import failed, refused
from safetensors.torch import save_file

from vlm import cli
from vlm.conditioning.file import load_about, load_conditioning


@pytest.fixture
def host(comfy, models):
    """The default server, without files from here before and after."""

    def clean():
        for place in (saved(comfy), models / "vlm_conditioning"):
            shutil.rmtree(place, ignore_errors=True)
        for file in (comfy.base / "input").glob("*.safetensors"):
            file.unlink()

    clean()
    yield comfy
    clean()


def saved(host) -> Path:
    return host.base / "output" / "vlm_conditioning"


def save(source: str = "words", name: str = "style", if_exists: str = "overwrite", **more) -> dict:
    return node(
        "VLMCSaveConditioning", conditioning=[source, 0], name=name, if_exists=if_exists, **more
    )


def saving(text: str = "words", *, tokens: int = 12, width: int = 64, **widgets) -> Prompt:
    """Text CONDITIONING into a file. Another text is other numbers and no cached result."""
    return {"words": conditioning(text, width, tokens), "file": save(**widgets)}


def loading(file: str = "output/style.safetensors") -> Prompt:
    return {"load": node("VLMCLoadConditioning", file=file), "out": dump("load")}


def listed(host) -> list[str]:
    return host.object_info("VLMCLoadConditioning")["input"]["required"]["file"][1]["options"]


def eventually(ask, good):
    """An answer once it is good; lists are kept for a moment."""
    began = time.monotonic()
    while not good(found := ask()):
        assert time.monotonic() - began < 120, found
        time.sleep(0.1)
    return found


# --- there and back -------------------------------------------------------------------------------


def test_what_was_encoded_comes_back_with_its_token_map(host):
    prompt = seen("saved with a picture") | {"file": save("layer", notes="a plain\ncolour")}
    first = host.run(prompt)
    said = first.text("file")
    assert said.startswith("saved as output/vlm_conditioning/style.safetensors: ")
    assert " image" in said and "64 wide" in said and " MB" in said
    assert said.endswith("Load VLM Conditioning lists it as output/style.safetensors")
    again = host.run(loading())
    (before,), (after,) = first.dump("dump"), again.dump("out")
    assert torch.equal(before.tensor, after.tensor) and after.tensor.dtype == torch.float32
    assert before.options == after.options and "vlm_tokens" in after.options
    assert again.text("load").startswith("output/style.safetensors: ")
    assert again.text("load").endswith("64 wide; notes a plain colour")


def test_the_library_reads_what_the_node_saved(host):
    dumped = host.run(seen("for the library") | {"file": save("layer", notes="mine")})
    path = saved(host) / "style.safetensors"
    (entry,) = load_conditioning(path)
    (ours,) = dumped.dump("dump")
    assert torch.equal(entry.tokens.states, ours.tensor)
    assert entry.tokens.token_map == ours.options["vlm_tokens"]
    about = load_about(path)
    assert (about["tokens"], about["width"]) == (entry.tokens.n, 64)
    assert sum(about["roles"].values()) == entry.tokens.n and about["roles"]["image"] > 0
    assert about["notes"] == "mine" and about["pack"].count(".") == 2


def test_several_entries_options_and_pooled_vectors(host):
    early = dict(conditioning=["words", 0], start=0.0, end=0.4)
    late = dict(conditioning=["others", 0], start=0.4, end=1.0)
    prompt = {
        "words": node("TestTinyConditioning", width=64, tokens=5, pooled=768, name="early"),
        "others": conditioning("late", tokens=9),
        "early": node("ConditioningSetTimestepRange", **early),
        "late": node("ConditioningSetTimestepRange", **late),
        "both": node(
            "ConditioningCombine", conditioning_1=["early", 0], conditioning_2=["late", 0]
        ),
        "file": save("both"),
        "dump": dump("file"),  # the CONDITIONING goes through the node
    }
    first, again = host.run(prompt), host.run(loading())
    assert "5 tokens, 64 wide, 2 entries" in first.text("file")
    before, after = first.dump("dump"), again.dump("out")
    assert [entry.options for entry in before] == [entry.options for entry in after]
    assert (after[0].options["end_percent"], after[1].options["start_percent"]) == (0.4, 0.4)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old.tensor, new.tensor)
    pooled = "pooled_output"
    assert torch.equal(before[0].option_tensors[pooled], after[0].option_tensors[pooled])


def test_a_picture_from_the_file_is_the_picture_without_it(host):
    prompt = saving("a picture")
    straight = host.run(sampled(prompt, "words"))
    loaded = host.run(sampled(loading(), "load"))
    assert pixels(straight) == pixels(loaded)


def pixels(result) -> bytes:
    (png,) = result.images()
    return Image.open(io.BytesIO(png)).convert("RGB").tobytes()


def test_a_file_of_the_command_line_gives_a_picture(host, models, capsys):
    out = host.base / "input" / "from-cli.safetensors"
    model = str(models / "VLM" / "tiny")
    assert cli.main(["encode", "--model", model, "--text", "a boat", "--out", str(out)]) == 0
    capsys.readouterr()
    result = host.run(sampled(loading("input/from-cli.safetensors"), "load"))
    (png,) = result.images()
    assert png.startswith(b"\x89PNG")
    (entry,) = load_conditioning(out)
    assert torch.equal(entry.tokens.states, result.dump("out")[0].tensor)
    said = result.text("load")
    assert "; target z-image" in said and "; layers auto" in said and "; text a boat" in said


def test_a_client_fetches_the_file_over_http(host):
    result = host.run(saving("fetched", name="cats/style", if_exists="number"))
    (entry,) = result.outputs["file"]["vlm_conditioning"]
    subfolder, name = "vlm_conditioning/cats", "style_00001_.safetensors"
    assert entry == {"filename": name, "subfolder": subfolder, "type": "output"}
    assert host.view(entry) == (saved(host) / "cats" / name).read_bytes()


# --- names and places -----------------------------------------------------------------------------


def test_numbers_count_up_and_nothing_is_overwritten(host):
    for text in ("one", "two", "three"):
        result = host.run(saving(text, name="many", if_exists="number"))
    assert result.text("file").startswith(
        "saved as output/vlm_conditioning/many_00003_.safetensors: "
    )
    names = [f"many_0000{number}_.safetensors" for number in (1, 2, 3)]
    assert sorted(file.name for file in saved(host).iterdir()) == names
    one, two = (load_conditioning(saved(host) / name)[0].tokens.states for name in names[:2])
    assert not torch.equal(one, two)


def test_a_replaced_file_is_read_again(host):
    host.run(saving("before"))
    before = host.run(loading()).dump("out")[0].tensor
    assert "load" in host.run(loading()).cached
    host.run(saving("after"))
    after = host.run(loading())
    assert "load" not in after.cached
    assert not torch.equal(before, after.dump("out")[0].tensor)


def test_folders_and_the_date_in_a_name(host):
    host.run(saving("dated", name="by day/%year%/style.safetensors"))
    year = time.localtime().tm_year
    found = [path.relative_to(saved(host)).as_posix() for path in saved(host).rglob("*.saf*")]
    assert found in [[f"by day/{y}/style.safetensors"] for y in (year - 1, year)]


def test_all_places_are_listed(host, models):
    (only,) = eventually(lambda: listed(host), lambda names: len(names) == 1)
    assert only.startswith("no file found") and "Save VLM Conditioning" in only
    host.run(saving("listed", name="a/b"))
    source = saved(host) / "a" / "b.safetensors"
    (models / "vlm_conditioning").mkdir()
    shutil.copy(source, models / "vlm_conditioning" / "shared.safetensors")
    shutil.copy(source, host.base / "input" / "sent.safetensors")
    names = ["input/sent.safetensors", "output/a/b.safetensors", "models/shared.safetensors"]
    assert eventually(lambda: listed(host), lambda found: found == names) == names
    tensors = [host.run(loading(name)).dump("out")[0].tensor for name in names]
    assert torch.equal(tensors[0], tensors[1]) and torch.equal(tensors[0], tensors[2])


# --- what is refused ------------------------------------------------------------------------------

NAMES = ["", "  ", "..", "../style", "a/../../style", "/tmp/style", "a//b", "a/", ".hidden/style"]


@pytest.mark.parametrize("name", [*NAMES, "a\\b", "C:style", "a*", ".safetensors", "%date:yyyy%"])
def test_a_name_that_no_file_can_have(host, name):
    error = refused(host, saving("refused", name=name))
    (text,) = error.details("file")
    assert repr(name) in text and "Save VLM Conditioning" in text and "portraits/style" in text
    assert not saved(host).exists()


def test_a_name_over_a_wire_is_checked_when_it_runs(host):
    prompt = saving("wired", name=["typed", 0])
    prompt["typed"] = node("PrimitiveString", value="../style")
    text = failed(host, prompt, "file")
    assert text.startswith("'../style' cannot be the name of a file.")
    assert not list((host.base / "output").glob("*.safetensors"))


@pytest.mark.parametrize("place", ["missing", "..", "absolute", "backslash", "nothing"])
def test_a_file_that_is_not_in_the_folders(host, place):
    host.run(saving(f"elsewhere: {place}"))
    outside = host.base / "user" / "style.safetensors"
    (saved(host) / "style.safetensors").replace(outside)
    name = {
        "missing": "output/style.safetensors",
        "..": "output/../user/style.safetensors",
        "absolute": str(outside),
        "backslash": "output\\..\\user\\style.safetensors",
        "nothing": "",
    }[place]
    (text,) = refused(host, loading(name)).details("load")
    assert f"There is no conditioning file called {name!r}." in text
    assert "Load VLM Conditioning" in text


def test_files_that_are_cut_short_or_something_else(host):
    host.run(saving("cut short"))
    path = saved(host) / "style.safetensors"
    whole = path.read_bytes()
    for cut in (0, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        text = failed(host, loading(), "load")
        assert text.startswith("style.safetensors is not a whole safetensors file")
        assert "Save VLM Conditioning" in text
    save_file({"mean": torch.ones(2), "std": torch.ones(2)}, path)
    text = failed(host, loading(), "load")
    assert text.startswith("style.safetensors holds no VLM conditioning but 'mean', 'std'.")


def test_hidden_states_are_refused_in_words(host):
    prompt = seen("hidden states", None) | {
        "filter": through_filter("encode"),
        "file": save("filter"),
    }
    text = failed(host, prompt, "file", "TypeError")
    assert text == (
        "conditioning on Save VLM Conditioning needs CONDITIONING, this is hidden states. "
        "Put Hidden Layer Select, LAP Pool or VLM Connector Loader and Connector Apply in between."
    )
    assert not saved(host).exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits another process: Linux")
def test_a_full_disk_leaves_the_old_file(host):
    """The server may write no file over 48 MB: the same error as a disk that is full."""
    import resource

    host.run(saving("the old one"))
    old = (saved(host) / "style.safetensors").read_bytes()
    pid, what = host.process.pid, resource.RLIMIT_FSIZE
    limits = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (48 * 2**20, limits[1]))
    try:
        large = saving("the new one", tokens=4096, width=4096)  # 64 MB
        text = failed(host, large, "file", "OSError")
    finally:
        resource.prlimit(pid, what, limits)
    assert "style.safetensors could not be written" in text and "Is the disk full?" in text
    assert (saved(host) / "style.safetensors").read_bytes() == old
    assert [file.name for file in saved(host).iterdir()] == ["style.safetensors"]
    assert host.run(loading()).dump("out")
