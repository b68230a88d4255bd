"""Model folders of strangers: config.json, tokenizer, templates, headers of weights, indexes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

import vlm
from vlm.weights.shards import find_shards

from ..case import Case, Make, line_of
from ..draw import Draw, write_text
from ..watch import CANARY
from .models import picture, tiny_folder
from .tensor_bytes import with_header

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CODE = f"open({CANARY!r}, 'w').close()\nclass Evil: pass\n"
JSONS = ("config.json", "tokenizer_config.json", "tokenizer.json", "preprocessor_config.json")
JSONS += ("chat_template.json", "generation_config.json", "video_preprocessor_config.json")
KEYS = ("auto_map", "model_type", "architectures", "hidden_size", "num_hidden_layers", "vocab_size")
KEYS += (
    "rope_scaling",
    "rope_theta",
    "text_config",
    "vision_config",
    "quantization_config",
    "dtype",
)
KEYS += (
    "torch_dtype",
    "eos_token_id",
    "tokenizer_class",
    "tokenizer_file",
    "vocab_file",
    "gguf_file",
)
KEYS += ("chat_template", "added_tokens_decoder", "size", "image_mean", "image_std", "patch_size")
KEYS += (
    "merge_size",
    "min_pixels",
    "max_pixels",
    "do_resize",
    "rescale_factor",
    "_attn_implementation",
)
KEYS += (
    "use_cache",
    "return_dict",
    "depth",
    "num_heads",
    "intermediate_size",
    "head_dim",
    "name_or_path",
)
AUTO_MAP = {
    "AutoConfig": "evil.Evil",
    "AutoTokenizer": ["evil.Evil", None],
    "AutoModel": "evil.Evil",
}
TEMPLATES = (
    "{{ messages }}", "{{ 1/0 }}", "{% for a in range(10**9) %}x{% endfor %}", "{{ 'a' * 10**9 }}",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "{{ ''.__class__.__mro__ }}",
    "{{ raise_exception('no') }}",
    "{{ cycler.__init__.__globals__.os.system('touch it-ran') }}", "{% include '/etc/passwd' %}",
    "{{ 2 ** 10 ** 8 }}",
    "{{ '%1000000000d' % 1 }}", "{{ messages[0]['content'] }}{{ nothing.here }}", "{% if %}", "",
    "{{ 'x'.center(10**9) }}",
    "{% set a = [] %}{% for i in range(99999) %}{% set _ = a.append(a) %}{% endfor %}{{ a }}",
)  # fmt: skip
_WAVE = np.sin(np.arange(20000) * 0.1)
FAMILIES = ("qwen3_vl", "qwen2_5_vl", "gemma3", "llama", "qwen2_5_omni")


def prepare(base: Path) -> Make:
    """Sound folders of some families, each loaded once so that everything is imported."""
    folders = {family: tiny_folder(base, family, 2) for family in FAMILIES}
    for folder in folders.values():
        _use(folder)

    def make(draw: Draw, room: Path) -> Case:
        family = draw.one("qwen3_vl", *FAMILIES)
        folder = room / "model"
        shutil.copytree(folders[family], folder)
        (folder / "evil.py").write_text(CODE)
        done = _damage(draw, folder)
        joins = done.startswith("index") and draw.chance(0.4)
        return Case(line_of(family, done), lambda: _join(folder) if joins else _use(folder))

    return make


def _use(folder: Path) -> Any:
    model = vlm.load(folder, dtype="float32")
    shown = [picture()] if model.family.has_vision else None
    model.rewrite("a red house", shown, max_tokens=2)
    if shown and model.family.title.startswith("Qwen"):
        model.encode("a red house", video=shown * 4, fps=2.0).layer(1)
    if model.hearing is not None:
        model.encode("a red house", audio=[(_WAVE, 44100), (_WAVE[:2000], 8000)]).layer(1)
    return model.encode("a red house", shown, template="chat").layer(1)


def _join(folder: Path) -> None:
    """What `python -m vlm convert` asks of a model in shards."""
    find_shards(folder)


def _damage(draw: Draw, folder: Path) -> str:
    """Changes one file of a folder; what was done."""
    kind = draw.random()
    if kind < 0.55:
        return _change_json(draw, folder)
    if kind < 0.7:
        text = draw.one(draw.choice(TEMPLATES), draw.choice(TEMPLATES) + draw.text())
        target = draw.one("chat_template.jinja", "chat_template.json")
        held = text if target.endswith("jinja") else json.dumps({"chat_template": text})
        write_text(folder / target, held)
        return f"{target} {text}"
    if kind < 0.8:
        file = folder / WEIGHTS
        data = file.read_bytes()
        file.write_bytes(with_header(draw, data) if draw.chance(0.7) else draw.cut(data))
        return "header"
    if kind < 0.9:
        return _shard(draw, folder)
    return _odd_file(draw, folder)


def _change_json(draw: Draw, folder: Path) -> str:
    file = folder / draw.choice([name for name in JSONS if (folder / name).is_file()])
    held = json.loads(file.read_text(encoding="utf-8"))
    if draw.chance(0.2):
        held |= draw.one(
            {"auto_map": AUTO_MAP},
            {"tokenizer_file": "../bait.json"},
            {"gguf_file": "../bait.json"},
            {"model_type": draw.text()},
            {"tokenizer_class": "Evil", "auto_map": AUTO_MAP},
        )
        write_text(file, json.dumps(held))
        return f"{file.name} {held!r:.40}"
    text = draw.json_text(draw.changed(held, KEYS))
    write_text(file, text)
    return f"{file.name} changed"


def _shard(draw: Draw, folder: Path) -> str:
    weights = load_file(folder / WEIGHTS)
    names = sorted(weights)
    files = {
        name: f"model-0000{1 + number % 2}-of-00002.safetensors"
        for number, name in enumerate(names)
    }
    for part in set(files.values()):
        save_file(
            {n: weights[n] for n in names if files[n] == part}, folder / part, {"format": "pt"}
        )
    (folder / WEIGHTS).unlink()
    odd = draw.one("../bait.safetensors", "/etc/passwd", "a" * 5000, draw.text(), None, 7)
    index: Any = {"metadata": {}, "weight_map": files}
    if draw.chance(0.5):
        index["weight_map"] = {**files, draw.choice(names): odd}
    else:
        index = draw.changed(index, ("weight_map", "metadata"))
    write_text(folder / INDEX, draw.json_text(index))
    return f"index {odd!r:.40}"


def _odd_file(draw: Draw, folder: Path) -> str:
    name = draw.choice(sorted(file.name for file in folder.iterdir()))
    file = folder / name
    data = file.read_bytes()
    kind = draw.one("gone", "empty", "cut", "folder", "pipe", "binary", "link")
    file.unlink()
    if kind == "empty":
        file.touch()
    elif kind == "cut":
        file.write_bytes(draw.cut(data))
    elif kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "binary":
        file.write_bytes(draw.randbytes(100))
    elif kind == "link":
        file.symlink_to(draw.one(name, "nowhere", "."))
    return f"{name} {kind}"
