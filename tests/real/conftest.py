"""Trained models as our library loads them, and as transformers does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
import transformers

import vlm

# Helpers lie beside the tests and are imported by their names.
sys.path.insert(0, str(Path(__file__).parent))

from gguf_folders import PACKAGES, default_cache, folder_of  # noqa: E402


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """All of them are slow: real models have thirty layers."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def folder():
    """`folder(name)`: a model of `gguf_folders.MODELS` in Hugging Face layout.

    Without its packages the test is skipped; where CI is set it fails.
    """

    def get(name):
        try:
            return folder_of(name, default_cache())
        except ImportError as error:
            missing = f"{error} is not installed: {PACKAGES}"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)

    return get


class Pair:
    """One model twice, in one dtype.

    Attributes:
        ours: As `vlm.load` gives it.
        theirs: transformers' own.
        tokenizer: transformers' own.
        template: The layout that it can be asked in.
    """

    def __init__(self, name, folder, dtype):
        self.name, self.dtype = name, dtype
        self.ours = vlm.load(folder, dtype=dtype)
        self.theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.template = "chat" if self.tokenizer.chat_template else "raw"

    def streams(self, ids):
        """What enters each decoder layer, then the last stream after the final norm."""
        caught, hooks = [], []

        def catch(module, args, kwargs):
            caught.append((args[0] if args else kwargs["hidden_states"]).clone())

        for layer in self.theirs.model.layers:
            hooks.append(layer.register_forward_pre_hook(catch, with_kwargs=True))
        try:
            with torch.no_grad():
                last = self.theirs.model(torch.tensor([ids])).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        return [*caught, last]

    def generate(self, ids, count):
        """The likeliest `count` tokens behind `ids`, the one that ends an answer included."""
        with torch.no_grad():
            out = self.theirs.generate(
                torch.tensor([ids]), max_new_tokens=count, do_sample=False, pad_token_id=0
            )
        return out[0, len(ids) :].tolist()


def _pair(request, folder):
    name, dtype = request.param
    return Pair(name, folder(name), getattr(torch, dtype))


def _names(param):
    return "-".join(param)


# Module scope: tests are grouped by model, and one pair is held at a time.
@pytest.fixture(
    scope="module",
    params=[(n, d) for n in ("smollm2", "gemma3") for d in ("float32", "bfloat16")],
    ids=_names,
)
def pair(request, folder):
    """Each model in each dtype."""
    return _pair(request, folder)


@pytest.fixture(scope="module", params=[("smollm2", "float32")], ids=_names)
def smollm2(request, folder):
    """The one that answers."""
    return _pair(request, folder)


@pytest.fixture(scope="module", params=[("gemma3", "float32")], ids=_names)
def gemma3(request, folder):
    """The one that only goes on."""
    return _pair(request, folder)
