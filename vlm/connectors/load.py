"""Loading a connector: its architecture and sizes are read from its weights."""

from __future__ import annotations

from pathlib import Path

import torch

from ..arguments import checked
from ..devices import torch_device
from .alignnet import read_alignnet
from .all_layers import AllLayersConnector
from .chain import read_chain
from .connector import Connector
from .connector_metadata import read_trained
from .file import check_values, read_state_dict
from .lap_file import read_lap
from .one_layer import OneLayerConnector
from .pooling import PoolingConnector


@checked
def load_connector(path: str | Path, device: torch.device | str = "cpu") -> Connector:
    """Loads a connector; architecture and sizes are read from its weights.

    Args:
        path: .safetensors, or .pt, .pth, .bin, which are read as tensors only.
        device: Where it runs; its weights are float32 there.

    Returns:
        Qwen2VL-Flux's linear connector, X2I's AlignNet, UniFusion's LAP, or another linear layer
        or MLP.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A file that cannot be read, or weights that are no connector, or not a whole
            one.
    """
    path, device = Path(path), torch_device(device)
    weights = read_state_dict(path)
    lap = read_lap(weights, path)
    check_values(weights, path.name)
    if lap is not None:
        return PoolingConnector(lap, path.name).to(device)
    align = read_alignnet(weights, path.name)
    if align is not None:
        return AllLayersConnector(align, path.name).to(device)
    chain = read_chain(weights, path.name)
    modules = {key.rpartition(".")[0].rpartition(".")[2] for key in weights}
    qwen2vl_flux = chain.num_linear == 1 and "linear" in modules
    return OneLayerConnector(chain, path.name, qwen2vl_flux, read_trained(path)).to(device)
