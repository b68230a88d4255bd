"""LAP weights in files: our own layout, and the part of a Krea 2 checkpoint that is one.

Our layout is a safetensors file. Its metadata, all strings: ``format`` = ``vlm_lap``, ``version`` =
``1``, ``heads`` (the weights do not say how many there are), ``layers`` (layer indices with commas
between, origin 0 = embeddings, as many as are pooled), ``vlm`` (the model it was trained on) and
``target`` (the diffusion model). Its tensors, with D the width, L the number of layers and H the
width inside the feed-forward (a new file: 4 D)::

    projector.weight                    [1, L]
    layerwise_blocks.{0,1}., refiner_blocks.{0,1}. with
        prenorm.weight, postnorm.weight [D]
        attn.wq.weight, attn.wo.weight  [D, D]
        attn.wk.weight, attn.wv.weight  [K, D], K = D or a part of it that divides it in heads
        mlp.w1.weight, mlp.w2.weight    [H, D], [D, H]

Layout ``txtfusion`` has the names that Krea 2's checkpoints have, after ``txtfusion.``; heads and
sizes are read from the weights, no metadata are needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from ..arguments import checked, whole
from ..files.tensor_file import SAFETENSORS
from ..quoted import told
from ..weights.safetensors_header import read_header
from .file import write_state_dict
from .lap_blocks import LAP, TXTFUSION, UNIFUSION, Origin, Sizes

FORMAT, VERSION = "vlm_lap", 1
_POOL = "projector.weight"
_KREA2 = (2560, 12)  # width and layers of the public weights
_SIGN = re.compile(r"^(.*?)(?:layerwise_blocks|refiner_blocks)\.\d")
_QUANTISED = ("weight_scale", "scale_weight", "input_scale", "comfy_quant")


@checked
def save_lap(lap: LAP, path: str | Path) -> None:
    """Writes LAP weights in their own layout, with where they come from.

    Args:
        lap: With an origin that says VLM, layers and target.
        path: A .safetensors file in a folder that exists; one of that name is replaced.

    Raises:
        ValueError: The origin does not say the layers, or other than are pooled; another ending.
        FileNotFoundError: The folder does not exist.
    """
    write_state_dict(lap.state_dict(), path, metadata_of(lap))


def metadata_of(lap: LAP) -> dict[str, str]:
    """What the file of a LAP says beside its weights.

    Raises:
        ValueError: The origin does not say the layers, or other than are pooled.
    """
    origin, layers = lap.origin, lap.origin.layers or ()
    if len(layers) != lap.sizes.layers:
        raise ValueError(
            f"This LAP pools {lap.sizes.layers} layers, its origin names {len(layers)}. Name the "
            "layers it was trained on, in order."
        )
    return {
        "format": FORMAT,
        "version": str(VERSION),
        "heads": str(lap.sizes.heads),
        "layers": ",".join(map(str, layers)),
        "vlm": origin.vlm,
        "target": origin.target,
    }


def lap_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a file in our layout; empty for any other file.

    Raises:
        ValueError: A version that this pack does not know.
    """
    path = Path(path)
    if path.suffix.lower() != SAFETENSORS:
        return {}
    metadata = read_header(path).metadata
    if metadata.get("format") != FORMAT:
        return {}
    if metadata.get("version") != str(VERSION):
        raise ValueError(
            f"{path.name} holds LAP weights of version {told(metadata.get('version'))}, this pack "
            f"reads {VERSION}. Update the pack, or write the file again with this one."
        )
    return metadata


def read_lap(weights: Mapping[str, torch.Tensor], path: Path) -> LAP | None:
    """The LAP that a state dict holds; None where it holds another architecture.

    Args:
        weights: Of `read_state_dict`.
        path: The file they are from, for its metadata.

    Returns:
        The LAP in float32.

    Raises:
        ValueError: A part of it is missing, there is something else, sizes do not agree, or the
            metadata are missing or wrong.
    """
    found = next((match for match in map(_SIGN.match, weights) if match), None)
    if found is None:
        return None
    own = {key.removeprefix(found.group(1)): value for key, value in weights.items()}
    _refuse_quantised(own, path.name)
    metadata = lap_metadata(path)
    sizes = _sizes(own, metadata, path.name)
    with torch.device("meta"):  # nothing random is made: the file's tensors take their place
        lap = LAP(sizes, _origin(sizes, metadata, path.name))
    _check(own, lap.state_dict(), path.name)
    lap.load_state_dict({key: value.float() for key, value in own.items()}, assign=True)
    return lap.requires_grad_(False).eval()


def _refuse_quantised(weights: Mapping[str, torch.Tensor], name: str) -> None:
    scaled = next((key for key in weights if key.endswith(_QUANTISED)), None)
    if scaled is not None:
        raise ValueError(
            f"{name} holds quantised weights ({scaled}), LAP weights are read as they were "
            "trained. Use the bf16 file of the same model."
        )


def _sizes(weights: Mapping[str, torch.Tensor], metadata: Mapping[str, str], name: str) -> Sizes:
    """Sizes as far as single weights say them; `_check` compares all of them."""
    block = "layerwise_blocks.0."
    layout = TXTFUSION if f"{block}attn.qknorm.qnorm.scale" in weights else UNIFUSION
    inner = "mlp.gate.weight" if layout == TXTFUSION else "mlp.w1.weight"
    width, layers = (_side(weights, key, 1, name) for key in (f"{block}attn.wq.weight", _POOL))
    hidden = _side(weights, block + inner, 0, name)
    keys = _side(weights, f"{block}attn.wk.weight", 0, name)
    if layout == TXTFUSION:
        heads, rest = divmod(width, _side(weights, f"{block}attn.qknorm.qnorm.scale", 0, name))
    else:
        heads, rest = _heads(metadata, name), 0
    if not heads or rest or width % heads or keys % (width // heads):
        raise ValueError(
            f"{name}: {heads} heads do not divide {width} dimensions and keys of {keys}. Its "
            "metadata or its weights are damaged; take the file from its publisher again."
        )
    key_heads = keys // (width // heads)
    if not key_heads or heads % key_heads:
        raise ValueError(
            f"{name} has {heads} heads and {key_heads} for keys, which does not divide them. The "
            "file is damaged; take it from its publisher again."
        )
    return Sizes(layout, width, layers, heads, key_heads, hidden)


def _side(weights: Mapping[str, torch.Tensor], key: str, axis: int, name: str) -> int:
    """Length of an axis of a weight that must be there."""
    if key not in weights or weights[key].ndim <= axis or not weights[key].shape[axis]:
        state = f"{list(weights[key].shape)}" if key in weights else "missing"
        raise ValueError(
            f"{name} is LAP weights whose {key} is {state}. Nothing is put in its place; download "
            "the whole file."
        )
    return weights[key].shape[axis]


def _heads(metadata: Mapping[str, str], name: str) -> int:
    heads = whole(metadata.get("heads", ""))
    if heads is None:
        raise ValueError(
            f"{name} is LAP weights of the layout {UNIFUSION}, and its metadata do not say how "
            f"many heads it has. Write it with vlm.save_lap, or with the metadata format {FORMAT}, "
            "version, heads, layers, vlm and target."
        )
    return heads


def _origin(sizes: Sizes, metadata: Mapping[str, str], name: str) -> Origin:
    """Where weights come from: as the metadata say, or Krea 2."""
    if not metadata:
        known = sizes.layout == TXTFUSION and (sizes.width, sizes.layers) == _KREA2
        return Origin(name, "Qwen3-VL-4B" if known else "", None, "Krea 2" if known else "")
    listed = metadata.get("layers", "")
    numbers = [whole(part.strip()) for part in listed.split(",")]
    layers = tuple(number for number in numbers if number is not None)
    if len(layers) != len(numbers) or len(layers) != sizes.layers:
        raise ValueError(
            f"{name} pools {sizes.layers} layers, its metadata name {told(listed)}. Expected "
            "that many "
            "layer indices with commas between."
        )
    return Origin(name, metadata.get("vlm", ""), layers, metadata.get("target", ""))


def _check(
    weights: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], name: str
) -> None:
    """Compares names and shapes with those of a whole LAP."""
    missing = [key for key in wanted if key not in weights]
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise ValueError(
            f"{name} is LAP weights that lack {missing[0]}{more}. Nothing is put in their place; "
            "download the whole file."
        )
    other = sorted(set(weights) - set(wanted))
    if other:
        raise ValueError(
            f"{name} is no LAP as this pack knows it: it also holds {other[0]}. Expected "
            "layerwise_blocks, projector and refiner_blocks, of two blocks each and without biases."
        )
    for key, value in weights.items():
        if value.shape != wanted[key].shape:
            raise ValueError(
                f"{name}: {key} is {list(value.shape)}, expected {list(wanted[key].shape)} beside "
                "the other weights. The file is damaged or put together from two."
            )
