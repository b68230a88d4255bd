"""What a connector's file says of its training, in the metadata of safetensors.

All of them texts: ``format`` = ``vlm_connector``, ``version`` = ``1``, ``vlm`` (the model it was
trained on), ``layers`` (of that model, as `parse_layers` reads them; `auto` = the target's),
``target`` (the diffusion model), ``keep`` (the tokens, as `filter_tokens` takes them; without it
all), and whatever else the training wrote for people. A LAP's file has
a format of its own, see `lap_file`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..files.tensor_file import SAFETENSORS
from ..quoted import told
from ..tokens.filter import keep_roles
from ..weights.safetensors_header import read_header

FORMAT, VERSION = "vlm_connector", "1"


@dataclass(frozen=True)
class Trained:
    """What a connector was trained on.

    Attributes:
        vlm: The model.
        layers: Its layers, as `select_layers` takes them.
        target: The diffusion model.
        keep: The tokens, as `filter_tokens` takes them.
    """

    vlm: str
    layers: str
    target: str
    keep: str = "all"


def read_trained(path: Path) -> Trained | None:
    """What a file says; None for a file that says nothing.

    Raises:
        ValueError: A version that this pack does not know, or tokens that nobody does.
    """
    if path.suffix.lower() != SAFETENSORS:
        return None
    metadata = read_header(path).metadata
    if metadata.get("format") != FORMAT:
        return None
    if metadata.get("version") != VERSION:
        raise ValueError(
            f"{path.name} holds a connector of version {told(metadata.get('version'))}, this pack "
            f"reads {VERSION}. Update the pack."
        )
    keep = metadata.get("keep") or "all"
    keep_roles(keep)
    layers = metadata.get("layers") or "auto"
    return Trained(metadata.get("vlm", ""), layers, metadata.get("target", ""), keep)
