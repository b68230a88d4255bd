"""Tests that run in ComfyUI's own Python, beside its classes, without a server.

The ordinary run leaves this folder out: `tests/host/test_inside*.py` run it with the interpreter
and the path of the ComfyUI that it found.
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest

COMFYUI = os.environ.get("VLMC_INSIDE")
if COMFYUI is None:
    collect_ignore_glob = ["*"]
else:
    if "COMFYUI_GGUF" not in os.environ:
        collect_ignore_glob = ["test_gguf.py"]
    HERE = Path(__file__).resolve().parent
    sys.path[:0] = [COMFYUI, str(HERE), str(HERE.parent), str(HERE.parents[1] / "targets")]
    import comfy.cli_args

    comfy.cli_args.args.cpu = True  # read when comfy.model_management is imported
    import torch

    torch.set_num_threads(1)
    # The repository is mounted as ComfyUI mounts a pack: under a name that is none of its own.
    pack = types.ModuleType("pack")
    pack.__path__ = [str(HERE.parents[2])]
    sys.modules["pack"] = pack

    import tiny_clips
    from partial_loading import brought, budget  # noqa: F401 (fixtures)

    tiny_clips.shrink_vision_towers()


@pytest.fixture(scope="session")
def native():
    """`native(kind)`: a tiny CLIP of `tiny_clips.KINDS`, made once; tests leave it as it was."""
    made = {}

    def get(kind: str):
        if kind not in made:
            made[kind] = tiny_clips.tiny_clip(kind)
        return made[kind]

    return get


@pytest.fixture
def as_vlm():
    """`as_vlm(clip, preprocessing)`: VLM From CLIP."""
    from pack.nodes.clip import vlm_from_clip

    def make(clip, preprocessing: str = "comfyui", prefix_cache_mb: float = 1024):
        return vlm_from_clip(clip, preprocessing, prefix_cache_mb)

    return make


@pytest.fixture
def counted():
    """`counted(model)`: a list to which every decoder layer adds (its index, its tokens)."""
    handles = []

    def watch(model):
        ran: list[tuple[int, int]] = []
        for index, layer in enumerate(model.backbone.text.layers):

            def note(_, args, kwargs, index=index):
                hidden = args[0] if args else kwargs["x"]
                ran.append((index, hidden.shape[1]))

            handles.append(layer.register_forward_pre_hook(note, with_kwargs=True))
        return ran

    yield watch
    for handle in handles:
        handle.remove()


@pytest.fixture(scope="session")
def picture():
    """`picture(height, width)`: an IMAGE [1, H, W, 3] of 8-bit values."""
    import torch

    def draw(height: int, width: int, seed: int = 0) -> torch.Tensor:
        noise = torch.Generator().manual_seed(seed)
        return torch.randint(0, 256, (1, height, width, 3), generator=noise) / 255

    return draw


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The pack's lists over empty folders of ComfyUI."""
    import folder_paths
    from pack.nodes import folders, system_file

    for name in ("input", "output", "models", "user", "temp"):
        (tmp_path / name).mkdir()
        getter = f"get_{name}_directory"
        if hasattr(folder_paths, getter):
            monkeypatch.setattr(folder_paths, getter, lambda name=name: str(tmp_path / name))
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    lists = [folders._MODELS, folders._CONNECTORS, folders._STATS, folders._CONDITIONINGS]
    lists.append(system_file.FILES)
    for each in lists:
        each.forget()
    yield folders
    for each in lists:
        each.forget()
