"""Files of tensors, whole at first and then damaged: safetensors, pickles, archives."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
from typing import Any

import torch
from safetensors.torch import save

from ..draw import Draw
from ..watch import CANARY

HEADER_KEYS = ("__metadata__", "dtype", "shape", "data_offsets", "a", "mean", "0.states")
DTYPE_NAMES = ("F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "F4", "X", "C64")


class Runs:
    """A pickle that runs a command as it is read."""

    def __reduce__(self) -> Any:
        return os.system, (f"touch {CANARY}",)


class Opens:
    """One that writes a file."""

    def __reduce__(self) -> Any:
        return open, (CANARY, "w")


def damaged(draw: Draw, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """A safetensors file: whole, with odd tensors, another header, or other bytes."""
    kind = draw.random()
    tensors = dict(tensors)
    if kind < 0.35 and tensors:
        name = draw.choice(list(tensors))
        tensors[name] = odd_like(draw, tensors[name])
    elif kind < 0.45 and tensors:
        del tensors[draw.choice(list(tensors))]
    elif kind < 0.55:
        tensors[draw.text()[:200].encode("utf-8", "ignore").decode()] = draw.tensor(2, 2)
    data = save(tensors, {key: _clean(value) for key, value in metadata.items()})
    if kind < 0.6:
        return data
    if kind < 0.8:
        return with_header(draw, data)
    return draw.cut(data)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def odd_like(draw: Draw, tensor: torch.Tensor) -> torch.Tensor:
    """Another tensor in its place: of other sizes, NaN, another type, empty."""
    kind = draw.randint(0, 6)
    if kind == 0:
        out = tensor.clone()
        if out.numel() and out.is_floating_point():
            out.view(-1)[draw.randrange(out.numel())] = draw.one(float("nan"), float("inf"), 1e38)
        return out
    if kind == 1:
        return tensor.to(
            draw.one(torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.float64)
        )
    if kind == 2:
        return tensor.reshape(-1).contiguous()
    if kind == 3:
        return tensor.unsqueeze(0).contiguous()
    if kind == 4:
        return tensor[:0].clone() if tensor.ndim else torch.zeros(0)
    if kind == 5:
        return torch.cat([tensor, tensor]) if tensor.ndim else tensor
    return draw.tensor(*[draw.randint(0, 6) for _ in range(draw.randint(0, 4))])


def with_header(draw: Draw, data: bytes) -> bytes:
    """The same file whose header says something else."""
    size = int.from_bytes(data[:8], "little")
    header = draw.changed(json.loads(data[8 : 8 + size]), HEADER_KEYS)
    if isinstance(header, dict) and header and draw.chance(0.5):
        one = header[draw.choice(list(header))]
        if isinstance(one, dict):
            one[draw.one("shape", "dtype", "data_offsets")] = draw.one(
                [2**31, 2**31], [2**62], [-1], [], draw.choice(DTYPE_NAMES),
                [0, 2**63], [8, 0], None,
            )  # fmt: skip
    text = draw.json_text(header).encode("utf-8", "surrogatepass")
    length = len(text) if draw.chance(0.9) else draw.one(0, 1, 2**31, 2**63, 100_000_001)
    return struct.pack("<Q", length) + text + data[8 + size :]


def pickled(draw: Draw, content: Any) -> bytes:
    """A file of torch.save, or a bare pickle: whole, hostile, cyclic, sparse, or damaged."""
    kind = draw.random()
    if kind < 0.3 and isinstance(content, dict):
        content = {**content, draw.one("a", "linear.weight", 1): hostile(draw)}
    elif kind < 0.45:
        content = hostile(draw)
    if draw.chance(0.1):
        return pickle.dumps(content)
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=draw.chance(0.6))
    data = out.getvalue()
    return draw.cut(data) if draw.chance(0.3) else data


def hostile(draw: Draw) -> Any:
    """Content that no file of weights has."""
    kind = draw.randint(0, 7)
    if kind == 0:
        return Runs()
    if kind == 1:
        return Opens()
    if kind == 2:
        ring: dict = {}
        ring["state_dict"] = ring
        return ring
    if kind == 3:
        deep: Any = {}
        for _ in range(draw.one(5, 200)):
            deep = {"state_dict": deep}
        return deep
    if kind == 4:
        return torch.zeros(1).expand(draw.one(10, 10**5), 10**5)
    if kind == 5:
        return torch.zeros(4, 4).to_sparse()
    if kind == 6:
        return torch.zeros(2**20, 2**10, device="meta")
    return draw.value()
