"""Model folders of strangers: no code of theirs runs, nothing is asked, fetched or read outside."""

import ast
import json
import os
import pickle
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import vlm
from vlm import cli

EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen")
EVENTS += ("os.system", "os.exec", "os.posix_spawn", "os.fork", "builtins.input")
CODE = """
import pathlib
pathlib.Path(__file__).with_name("it-ran").touch()
class Evil: pass
"""


class Watch:
    """What the process does beyond computing, while it is on; such a hook cannot be removed."""

    def __init__(self):
        self.on, self.events, self.opened = False, [], []
        sys.addaudithook(self.hear)

    def hear(self, name, words):
        if not self.on:
            return
        if name in EVENTS:
            self.events.append((name, str(words)[:200]))
        elif name == "open" and isinstance(words[0], str | os.PathLike):
            self.opened.append(os.path.realpath(words[0]))

    @contextmanager
    def over(self):
        self.on, self.events, self.opened = True, [], []
        try:
            yield
        finally:
            self.on = False


WATCH = Watch()


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A model folder with code of its own beside it, and a file outside that is not its."""
    place = tmp_path / "models" / "hostile"
    shutil.copytree(tiny_folder(), place)
    for name in ("configuration_evil.py", "tokenization_evil.py", "modeling_evil.py"):
        (place / name).write_text(CODE)
    (tmp_path / "outside").mkdir()
    shutil.copy(place / "tokenizer.json", tmp_path / "outside" / "tokenizer.1.0.json")
    return place


def edit(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


AUTO_MAP = {
    "AutoConfig": "configuration_evil.Evil",
    "AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"],
    "AutoModel": "modeling_evil.Evil",
    "AutoModelForImageTextToText": "modeling_evil.Evil",
}
OUTSIDE = "../../outside/tokenizer.1.0.json"
TOKENIZER = {
    "code": {"auto_map": AUTO_MAP, "tokenizer_class": "Evil"},
    "code on the hub": {"auto_map": {"AutoTokenizer": ["a/b--c.Evil", "a/b--c.Evil"]}},
    "gguf_file": {"gguf_file": OUTSIDE},
    "tokenizer_file": {"tokenizer_file": OUTSIDE},
    "vocab_file": {"vocab_file": OUTSIDE, "merges_file": OUTSIDE},
    "fast_tokenizer_files": {"fast_tokenizer_files": [OUTSIDE]},
    "RagTokenizer": {"tokenizer_class": "RagTokenizer"},
}
CONFIG = {
    "code": {"auto_map": AUTO_MAP},
    "code of an unknown type": {"auto_map": AUTO_MAP, "model_type": "evil"},
    "a kernel": {"attn_implementation": "someone/kernel"},
    "a kernel, hidden": {"_attn_implementation": "someone/kernel", "use_kernels": True},
    "another model's name": {"_name_or_path": "someone/model"},
}
CASES = [("tokenizer_config.json", name, values) for name, values in TOKENIZER.items()]
CASES += [("config.json", name, values) for name, values in CONFIG.items()]


@pytest.mark.parametrize(
    ("file", "values"), [(f, v) for f, _, v in CASES], ids=[f"{f}: {n}" for f, n, _ in CASES]
)
def test_a_folder_of_a_stranger(folder, tmp_path, picture, file, values):
    for key in ("gguf_file", "tokenizer_file", "vocab_file", "merges_file"):
        if key in values:
            values = {**values, key: str(tmp_path / "outside" / "tokenizer.1.0.json")}
    edit(folder / file, **values)
    with WATCH.over():
        try:
            vlm.load(folder).encode("a red house", [picture(64, 64, 1)]).layer(1)
        except ValueError as error:
            assert str(folder.name) in str(error) and len(str(error)) < 1000
    assert WATCH.events == []
    assert not [name for name in WATCH.opened if name.startswith(str(tmp_path / "outside"))]
    assert not (folder / "it-ran").exists()
    assert any(name.startswith(str(folder)) for name in WATCH.opened)  # the hook hears


def test_a_tokenizer_that_names_a_file_is_refused_by_the_key(folder):
    edit(folder / "tokenizer_config.json", gguf_file="a.gguf")
    with pytest.raises(ValueError, match="sets gguf_file to 'a.gguf'.*Remove gguf_file"):
        vlm.load(folder)
    edit(folder / "tokenizer_config.json", gguf_file=None, special_tokens_map_file="/gone/a.json")
    assert vlm.load(folder).encode("a").n


class Runs:
    """A pickle that runs a command as it is read."""

    def __reduce__(self):
        return os.system, ("echo it ran",)


@pytest.mark.parametrize("write", [torch.save, lambda it, to: to.write_bytes(pickle.dumps(it))])
def test_a_pickle_that_runs_a_command(tmp_path, write, capfd):
    write({"linear.weight": Runs()}, tmp_path / "evil.pt")
    with WATCH.over():
        status = cli.main(["convert", str(tmp_path / "evil.pt"), str(tmp_path / "out.safetensors")])
    assert status == 2 and WATCH.events == []
    assert "it ran" not in capfd.readouterr().out


# Classes of diffusers by their names: they run no code of a folder and know no such argument.
OF_DIFFUSERS = ("dit.py", "dit_folder.py")
ASKED = {
    "from_pretrained": {"trust_remote_code": False, "local_files_only": True},
    "from_config": {"trust_remote_code": False},
}


def test_every_call_of_transformers_says_so_itself():
    """Whatever a default is or becomes: code stays off, and files are those on the disk."""
    calls = [
        (file.name, node)
        for file in Path(vlm.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    found = [(name, node) for name, node in calls if node.func.attr in ASKED]
    assert {name for name, _ in found} >= {"tokenizer.py", "quantized.py", "base_model.py"}
    for name, node in found:
        given = {
            word.arg: word.value.value
            for word in node.keywords
            if isinstance(word.value, ast.Constant)
        }
        asked = dict(ASKED[node.func.attr])
        if name in OF_DIFFUSERS:
            del asked["trust_remote_code"]
        assert asked.items() <= given.items(), (name, node.lineno)
