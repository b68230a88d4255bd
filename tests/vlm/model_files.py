"""Makes model files of all kinds out of tiny folders, and damages them."""

import json

from safetensors.torch import load_file, save_file

from vlm.weights.tensor_names import our_name

# How the same tensors are called: transformers' base model to the layouts that are about.
STYLES = {
    "huggingface": ("model.language_model.", "model.visual."),
    "comfyui": ("model.", "visual."),
    "old": ("language_model.model.", "visual."),
    "base": ("language_model.", "visual."),
}


def edit(file, **changes):
    """Changes keys of a JSON file; None removes one."""
    content = json.loads(file.read_text(encoding="utf-8"))
    content.update(changes)
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def rewrite(file, change):
    """Has `change` edit the tensors of a file, or of a folder's model.safetensors."""
    if file.is_dir():
        file = file / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in load_file(file).items()}
    change(weights)
    save_file(weights, file, {"format": "pt"})


def shard(folder):
    """Splits the weights in two files with an index; returns the index."""
    weights = load_file(folder / "model.safetensors")
    names, index = sorted(weights), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    file = folder / "model.safetensors.index.json"
    file.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return file


def renamed(weights, style):
    """The weights of a folder under the names of a layout of STYLES."""
    prefixes = dict(zip(("language_model.", "visual."), STYLES[style], strict=True))
    names = {}
    for name, tensor in weights.items():
        ours = our_name(name)
        if ours is not None:
            ours_prefix = next(prefix for prefix in prefixes if ours.startswith(prefix))
            name = prefixes[ours_prefix] + ours.removeprefix(ours_prefix)
        names[name] = tensor
    return names


def write_single(folder, out, style="comfyui", change=lambda weights: None, metadata=None):
    """Writes a folder's weights as one file, and its config.json as NAME.json beside it.

    Args:
        folder: A tiny model.
        out: The file.
        style: One of STYLES.
        change: Edits the renamed tensors.
        metadata: Of the file.

    Returns:
        The file.
    """
    weights = renamed(load_file(folder / "model.safetensors"), style)
    change(weights)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, out, {"format": "pt"} | (metadata or {}))
    config = (folder / "config.json").read_text(encoding="utf-8")
    out.with_suffix(".json").write_text(config, encoding="utf-8")
    return out


def assert_tells(error, *parts):
    """What is wrong, where, and what to do: whole sentences."""
    text = str(error.value)
    for part in parts:
        assert str(part) in text, text
    assert text[0].isupper() or text[0] == "/"
    assert text.endswith(".")
    assert text.count(". ") >= 1, f"says no fix: {text}"
