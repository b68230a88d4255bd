"""Random LAP weights, files of them, and the paper's equations written down directly."""

import math

import torch
from safetensors.torch import save_file

import vlm
from vlm.connectors.lap_blocks import TXTFUSION, UNIFUSION

WIDTH, LAYERS, HEADS = 64, 12, 4
LAYOUTS = (UNIFUSION, TXTFUSION)
CLOSE = 1e-5
EVERY_THIRD = tuple(range(2, 36, 3))


def lap_weights(layout, width=WIDTH, layers=LAYERS, heads=HEADS, key_heads=None, seed=0):
    """Random weights under the names of a file, large enough for every part to matter."""
    head = width // heads
    keys = head * (key_heads or heads)
    shapes = {"projector.weight": (1, layers)}
    for block in (f"{stack}_blocks.{n}." for stack in ("layerwise", "refiner") for n in (0, 1)):
        of = {"wq": width, "wk": keys, "wv": keys, "wo": width}
        if layout == TXTFUSION:
            norms = {"prenorm": width, "postnorm": width}
            norms |= {"attn.qknorm.qnorm": head, "attn.qknorm.knorm": head}
            shapes |= {f"{block}{norm}.scale": (size,) for norm, size in norms.items()}
            of["gate"] = width
            shapes |= {f"{block}mlp.{name}.weight": (128, width) for name in ("gate", "up")}
            shapes[f"{block}mlp.down.weight"] = (width, 128)
        else:
            shapes |= {f"{block}{norm}.weight": (width,) for norm in ("prenorm", "postnorm")}
            shapes[f"{block}mlp.w1.weight"] = (4 * width, width)
            shapes[f"{block}mlp.w2.weight"] = (width, 4 * width)
        shapes |= {f"{block}attn.{name}.weight": (out, width) for name, out in of.items()}
    g = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=g) / (2 if len(shape) == 1 else shape[1] ** 0.5)
        for name, shape in shapes.items()
    }


METADATA = {
    "format": "vlm_lap",
    "version": "1",
    "heads": str(HEADS),
    "layers": ",".join(map(str, EVERY_THIRD)),
    "vlm": "tiny",
    "target": "none",
}


def put_lap(folder, weights, metadata=METADATA, name="lap.safetensors"):
    """A file of the weights, in a folder; its path."""
    whole = {key: value.contiguous() for key, value in weights.items()}
    save_file(whole, folder / name, metadata)
    return folder / name


def loaded_lap(folder, layout, **sizes):
    """The LAP of a file with random weights."""
    metadata = METADATA if layout == UNIFUSION else None
    return vlm.load_connector(put_lap(folder, lap_weights(layout, **sizes), metadata)).module


def attention(q, k, v, heads, real=None):
    """softmax(Q K^T / sqrt(d)) V, head by head, on [S, D]; `real` [S]: keys that may be read."""
    width, outs = q.shape[1] // heads, []
    group = heads // (k.shape[1] // width)
    for head in range(heads):
        own, of = (slice(n * width, (n + 1) * width) for n in (head, head // group))
        scores = q[:, own] @ k[:, of].T / math.sqrt(width)
        if real is not None:
            scores[:, ~real] = -math.inf
        outs.append(scores.softmax(-1) @ v[:, of])
    return torch.cat(outs, dim=1)


def rms(x, weight, eps):
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def silu(x):
    return x * torch.sigmoid(x)


def direct_block(w, x, heads, real=None):
    """One block on a sequence [S, D], in float64; its layout is told by its weights."""
    if "prenorm.weight" in w:
        h = rms(x, w["prenorm.weight"], 1e-6)
        q, k, v = (h @ w[f"attn.{name}.weight"].T for name in ("wq", "wk", "wv"))
        out = attention(q, k, v, heads, real) @ w["attn.wo.weight"].T
        x = x + rms(out, w["postnorm.weight"], 1e-6)
        return x + silu(x @ w["mlp.w1.weight"].T) @ w["mlp.w2.weight"].T
    h = rms(x, 1 + w["prenorm.scale"], 1e-5)
    q, k, v, gate = (h @ w[f"attn.{name}.weight"].T for name in ("wq", "wk", "wv", "gate"))
    head = x.shape[1] // heads
    q = rms(q.view(len(q), -1, head), 1 + w["attn.qknorm.qnorm.scale"], 1e-5).flatten(1)
    k = rms(k.view(len(k), -1, head), 1 + w["attn.qknorm.knorm.scale"], 1e-5).flatten(1)
    x = x + (attention(q, k, v, heads, real) * torch.sigmoid(gate)) @ w["attn.wo.weight"].T
    h = rms(x, 1 + w["postnorm.scale"], 1e-5)
    inside = silu(h @ w["mlp.gate.weight"].T) * (h @ w["mlp.up.weight"].T)
    return x + inside @ w["mlp.down.weight"].T


def direct(weights, stack, heads=HEADS, strengths=None, refiner=True, real=None):
    """LAP on [B, L, N, D]: blocks over layers, FC that pools them, refiner over tokens."""
    weights = {name: value.double() for name, value in weights.items()}

    def block(of, number):
        start = f"{of}_blocks.{number}."
        return {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}

    pool = weights["projector.weight"][0]
    if strengths is not None:
        pool = pool * torch.tensor(strengths, dtype=torch.float64)
    rows = []
    for row, sample in enumerate(stack.double()):
        pooled = []
        for x in sample.transpose(0, 1):
            for number in (0, 1):
                x = direct_block(block("layerwise", number), x, heads)
            pooled.append(pool @ x)
        x = torch.stack(pooled)
        for number in (0, 1) if refiner else ():
            readable = None if real is None else real[row]
            x = direct_block(block("refiner", number), x, heads, readable)
        rows.append(x)
    return torch.stack(rows)


def run(lap, stack, **how):
    """The module on layers in one tensor [B, L, N, D]."""
    with torch.no_grad():
        return lap(lambda first, stop: stack[:, :, first:stop], stack.shape[2], **how)


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3
