"""Files whose names, keys and values are long and full of escapes: what is said of them is a line.

Every reader of the library gets them in every place where text can stand.
"""

import json
import shutil
import zipfile

import pytest
import torch
from model_files import rewrite
from safetensors.torch import save_file

import vlm
from vlm.batch.jobs import Provenance, read_jobs
from vlm.batch.recipe import Recipe
from vlm.evaluate.cases import read_cases
from vlm.prompts.system_file import read_system_prompt
from vlm.tokens.shape_text import parse_dots
from vlm.train.recipe_file import read_recipe
from vlm.weights.join import join_shards

LOUD = "\x1b[2J\r\n\u202e" + "x" * 4000
ONE = torch.ones(4)


def tensors(place, names, metadata=None, ending=".safetensors"):
    file = place / f"a{ending}"
    held = {name: torch.ones(4, 4) for name in names}
    torch.save(held, file) if ending == ".pt" else save_file(held, file, metadata)
    return file


def text(place, words, name="a.jsonl"):
    file = place / name
    file.write_text(words, encoding="utf-8")
    return file


NAMES = [
    [LOUD],
    ["weight", LOUD],
    [f"{LOUD}.weight", "1.weight"],
    ["map_conv1.weight", LOUD],
    ["9" * 5000 + ".weight", "8" * 5000 + ".weight"],
    ["layerwise_blocks.0." + LOUD, "projector.weight"],
    ["txtfusion.layerwise_blocks.0." + LOUD],
    ["mean", "std", LOUD],
    ["states", LOUD],
    ["conditioning", "cond", LOUD],
]
NOTES = [
    {"format": LOUD},
    {"format": "vlm_conditioning", "version": LOUD, LOUD: LOUD},
    {"format": "vlm_conditioning", "version": "2", "entries": json.dumps([{LOUD: 1}])},
    {"format": "vlm_conditioning", "version": "2", "entries": json.dumps([{"states": LOUD}])},
    {"format": "vlm_conditioning", "version": "2", "entries": "[" + "9" * 5000 + "]"},
    {"format": "vlm_conditioning", "version": "2", "entries": LOUD, "checksum": LOUD},
    {"format": "vlm_stats", "version": "1", "model": LOUD, "count": LOUD},
    {"format": "vlm_lap", "version": "1", "heads": "9" * 5000, "layers": LOUD, "vlm": LOUD},
    {"conditioning_options": json.dumps({LOUD: LOUD})},
]
LINES = [
    LOUD,
    json.dumps({LOUD: 1}),
    json.dumps({"text": "a", "id": LOUD}),
    json.dumps({"text": "a", "image": LOUD}),
    json.dumps({"text": "a", "layers": LOUD}),
    json.dumps({"text": "a", "target": LOUD}),
    json.dumps({"text": "a", "stats": LOUD}),
    json.dumps({"text_file": LOUD}),
    json.dumps({"text_file": "a\0b"}),
    json.dumps({"text": "a", "alpha": LOUD}),
    json.dumps({"name": LOUD, "prompt": "a"}),
    json.dumps({"name": "a", "prompt": "a", "reference": LOUD}),
    json.dumps({"name": "a", "prompt": "a", LOUD: "a"}),
    '{"text": "a", "fps": ' + "9" * 5000 + "}",
    json.dumps({"text": "a", "fps": 10**400}),
    '{"a": 1, "a": 2}'.replace("a", json.dumps(LOUD)[1:-1]),
    "[" * 5000,
]


def jobs(file):
    return read_jobs(file, Recipe(), Provenance("tiny"))


def tries(place):
    """(what, a call that has to refuse or to read)"""
    for at, names in enumerate(NAMES):
        for ending in (".safetensors", ".pt"):
            folder = place / f"names{at}{ending}"
            folder.mkdir()
            file = tensors(folder, names, ending=ending)
            yield f"connector {at}{ending}", lambda file=file: vlm.load_connector(file)
            if ending != ".pt":
                yield f"conditioning {at}", lambda file=file: vlm.load_conditioning(file)
                yield f"stats {at}", lambda file=file: vlm.load_stats(file)
                yield f"model {at}", lambda file=file: vlm.load(file)
    for at, shape in enumerate([[1] * 5000, [1] * 9, [0] * 9]):
        for name in ("weight", "conditioning", "states", "mean"):
            file = place / f"{name}{at}.safetensors"
            save_file({name: torch.ones(shape), "std": torch.ones(shape)}, file)
            for read in (vlm.load, vlm.load_connector, vlm.load_conditioning, vlm.load_stats):
                yield f"{name} of {len(shape)}", lambda read=read, file=file: read(file)
    for at, notes in enumerate(NOTES):
        folder = place / f"notes{at}"
        folder.mkdir()
        for kind, names in (("conditioning", ["states"]), ("stats", ["mean", "std"])):
            file = tensors(folder, names, notes).rename(folder / f"{kind}.safetensors")
            load = vlm.load_conditioning if kind == "conditioning" else vlm.load_stats
            yield f"{kind} notes {at}", lambda load=load, file=file: load(file)
            yield f"connector notes {at}", lambda file=file: vlm.load_connector(file)
    for at, line in enumerate(LINES):
        file = text(place, line, f"{at}.jsonl")
        yield f"jobs {at}", lambda file=file: jobs(file)
        yield f"cases {at}", lambda file=file: read_cases(file)
        yield f"dots {at}", lambda line=line: parse_dots(line)
        recipe = text(place, line, f"{at}.toml")
        yield f"recipe {at}", lambda recipe=recipe: read_recipe(str(recipe))
        index = text(
            place, json.dumps({"weight_map": {LOUD: line}}), f"{at}.safetensors.index.json"
        )
        yield f"index {at}", lambda index=index: join_shards(index, place / "out.safetensors")
    for at, line in enumerate([f'"{json.dumps(LOUD)[1:-1]}" = 1', f"steps = {'9' * 5000}",
                               f"lr = {'9' * 400}", f"captions = {json.dumps(LOUD)}",
                               f"target = {json.dumps(LOUD)}"]):  # fmt: skip
        recipe = text(place, line, f"own{at}.toml")
        yield f"own recipe {at}", lambda recipe=recipe: read_recipe(str(recipe))
    for name in (LOUD, "a\0b", "\ud800"):
        for read in (vlm.load, vlm.load_connector, vlm.load_conditioning, vlm.load_stats):
            yield f"{read.__name__} of a name", lambda read=read, name=name: read(name)
        yield "system prompt of a name", lambda name=name: read_system_prompt(name)
        yield "jobs of a name", lambda name=name: jobs(name)
        yield "cases of a name", lambda name=name: read_cases(name)
        yield "recipe of a name", lambda name=name: read_recipe(name)
    archive = place / "a.npz"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("mean.npy", LOUD)
        file.writestr(LOUD, "")
    yield "npz", lambda: vlm.load_stats(archive)


def test_what_is_said_of_hostile_files(tmp_path, caplog):
    bad, refused = [], 0
    for what, call in tries(tmp_path):
        try:
            call()
        except (ValueError, TypeError, FileNotFoundError) as error:
            refused += 1
            said = str(error).replace(str(tmp_path), "")
            if not said.isprintable() or len(said) > 1000 or "[Errno" in said or " " not in said:
                bad.append(f"{what}: {said[:300]!r} ({len(said)})")
        except Exception as error:  # what the test looks for
            bad.append(f"{what}: {str(error)[:300]!r} {type(error)}")
    bad += [f"log: {line[:300]!r}" for line in caplog.messages
            if not line.isprintable() or len(line) > 1000]  # fmt: skip
    assert not bad, "\n".join(bad)
    assert refused > 200


@pytest.mark.parametrize("key", ["model_type", "architectures", "hidden_act", "rope_scaling",
                                 "eos_token_id", "torch_dtype", "text_config"])  # fmt: skip
def test_what_is_said_of_a_hostile_model(tiny_folder, tmp_path, key):
    folder = shutil.copytree(tiny_folder("qwen3_vl", 2), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for value in (LOUD, [LOUD], {LOUD: LOUD}, {"rope_type": LOUD}):
        for part in (config, {**config, "text_config": {**config["text_config"], key: value}}):
            text(
                folder, json.dumps({**part, key: value} if part is config else part), "config.json"
            )
            try:
                vlm.load(folder)
            except (ValueError, FileNotFoundError) as error:
                said = str(error).replace(str(tmp_path), "")
                assert said.isprintable() and len(said) < 1000, said


def test_what_is_said_of_hostile_weights(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder("qwen3_vl", 2), tmp_path / "model")
    rewrite(folder, lambda held: held.update({LOUD: ONE, "lora_A." + LOUD: ONE.clone()}))
    with pytest.raises(ValueError) as caught:
        vlm.load(folder)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000
    rewrite(folder, lambda held: held.pop(sorted(held)[0]))
    with pytest.raises(ValueError) as caught:
        vlm.load(folder)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000
