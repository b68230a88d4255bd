"""X2I's AlignNet: all layers of a VLM mixed into one, and mapped to FLUX.1's context and pooled.

Source: X2I, utils/proj.py (`Proj7Exp` without its T5 stack, which no released file has).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch.nn import functional as F

CHUNK = 64  # tokens whose layers are put together at a time
EPS = 1e-6

# Gives the layers [B, L, n, D] of the tokens from the first number up to the second.
Layers = Callable[[int, int], torch.Tensor]

# Sizes by letter: D read, H inside, W given, P pooled, L layers, k kernel.
_MAPS = {
    "mlp.layernorm.weight": "D",
    "mlp.layernorm.bias": "D",
    "mlp.projector.0.weight": "HD",
    "mlp.projector.2.weight": "WH",
    "mlp.fc.1.weight": "PW",
    "mlp.fc.1.bias": "P",
}
_MIXES = {"conv.weight": "1Lkk", "conv.bias": "1", "cha_scale": "1L11"}
_SIGN = re.compile(r"^(.*?)(mlp\.(?:layernorm|projector|fc)\.|conv\.(?:weight|bias)$|cha_scale$)")


class AlignNet(torch.nn.Module):
    """An AlignNet in one of its three forms, in float32.

    Attributes:
        form: How the layers are mixed: `cnn` = a convolution over tokens and dimensions with the
            layers as channels, `scale` = a factor per layer and the mean, `mean`.
        layers_read: L; None for the mean, which takes any number of layers.
        in_width, width: Widths D it reads and W it gives.
        pooled: Width P of its pooled vector.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor]):
        """Takes a state dict that `read_alignnet` has checked."""
        super().__init__()
        parameters = {name: value.to(torch.float32) for name, value in weights.items()}
        for name, value in parameters.items():
            parameter = torch.nn.Parameter(value, requires_grad=False)
            self.register_parameter(name.replace(".", "_"), parameter)
        mixes = {"conv.weight": "cnn", "cha_scale": "scale"}
        mix = next((name for name in mixes if name in weights), None)
        self.form = mixes[mix] if mix else "mean"
        self.layers_read = weights[mix].shape[1] if mix else None
        self.in_width = self.mlp_layernorm_weight.shape[0]
        self.width = self.mlp_projector_2_weight.shape[0]
        self.pooled = self.mlp_fc_1_weight.shape[0]

    def forward(self, layers: Layers, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps all layers to a context and a pooled vector.

        Args:
            layers: The layers of a range of tokens.
            tokens: N.

        Returns:
            Context [B, N, W] and pooled [B, P], float32.
        """
        mixed = self.mix(layers, tokens)
        norm = self.mlp_layernorm_weight
        mixed = F.layer_norm(mixed, norm.shape, norm, self.mlp_layernorm_bias, EPS)
        inside = F.gelu(F.linear(mixed, self.mlp_projector_0_weight))
        context = F.linear(inside, self.mlp_projector_2_weight)
        head = F.linear(F.gelu(context), self.mlp_fc_1_weight, self.mlp_fc_1_bias)
        return context, head.mean(dim=1)

    def layer_weights(self, num_layers: int | None = None) -> torch.Tensor | None:
        """What the mix takes of each layer, [L] float32 on the CPU.

        Args:
            num_layers: L where it is a mean, which takes any number; None = not known.

        Returns:
            The kernel's norm per layer; or the factor a layer has in the sum; None for a mean of a
            number of layers that is not known.
        """
        if self.form == "cnn":
            return self.conv_weight[0].flatten(1).norm(dim=1).float().cpu()
        if self.form == "scale":
            return self.cha_scale.flatten().float().cpu() / self.layers_read
        return None if num_layers is None else torch.full((num_layers,), 1 / num_layers)

    def mix(self, layers: Layers, tokens: int) -> torch.Tensor:
        """The layers mixed into one, [B, N, D] in float32, some tokens at a time.

        Each time the tokens beside them come along that the convolution reaches: the result is that
        of one convolution over everything, and all layers are never in one tensor.
        """
        halo = self.conv_weight.shape[2] // 2 if self.form == "cnn" else 0
        mixed = []
        for start in range(0, tokens, CHUNK):
            stop = min(start + CHUNK, tokens)
            first = max(start - halo, 0)
            some = self._mix(layers(first, min(stop + halo, tokens)))
            mixed.append(some[:, start - first : stop - first].float())
        return torch.cat(mixed, dim=1)

    def _mix(self, layers: torch.Tensor) -> torch.Tensor:
        """Layers [B, L, n, D] to [B, n, D]."""
        if self.form == "cnn":
            if layers.dtype != torch.bfloat16:
                return _convolve(layers.float(), self.conv_weight[0], self.conv_bias)
            # In bfloat16 as X2I runs it, which processors convolve several times as fast.
            weight, bias = self.conv_weight.bfloat16(), self.conv_bias.bfloat16()
            return F.conv2d(layers, weight, bias, padding=weight.shape[2] // 2)[:, 0]
        if self.form == "scale":
            return (layers.float() * self.cha_scale).mean(dim=1)
        return layers.float().mean(dim=1)


def published_name(parameter: str) -> str:
    """What released files call a parameter of `AlignNet`."""
    return next(name for name in (*_MAPS, *_MIXES) if name.replace(".", "_") == parameter)


def _convolve(layers: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A convolution to one channel with zeros around, in float32.

    As one matrix product over the layers and a sum of its shifted rows: half the time of
    `torch.nn.functional.conv2d` on a CPU, and on a GPU not in TF32.

    Args:
        layers: [B, L, n, D].
        kernel: [L, k, k], k odd.
        bias: [1].

    Returns:
        [B, n, D].
    """
    batch, _, rows, cols = layers.shape
    side = kernel.shape[-1]
    taps = kernel.flatten(1).T @ layers.flatten(2)
    taps = taps.view(batch, side, side, rows, cols)
    total = bias.expand(batch, rows, cols).clone()
    for i in range(side):
        to_rows, from_rows = _overlap(i - side // 2, rows)
        for j in range(side):
            to_cols, from_cols = _overlap(j - side // 2, cols)
            total[:, to_rows, to_cols] += taps[:, i, j, from_rows, from_cols]
    return total


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Where an axis and the same axis `shift` further on lie over one another."""
    near, far = max(size - abs(shift), 0), min(abs(shift), size)
    here, there = slice(0, near), slice(far, size)
    return (here, there) if shift >= 0 else (there, here)


def read_alignnet(weights: Mapping[str, torch.Tensor], name: str) -> AlignNet | None:
    """The AlignNet that a state dict holds; None where it holds another architecture.

    Args:
        weights: Of `read_state_dict`, with anything before AlignNet's own names.
        name: Of the file, for messages.

    Raises:
        ValueError: A part of it is missing, there is something else, or sizes do not agree.
    """
    found = next((match for match in map(_SIGN.match, weights) if match), None)
    if found is None:
        return None
    prefix = found.group(1)
    own = {key.removeprefix(prefix): value for key, value in weights.items()}
    conv = {key: letters for key, letters in _MIXES.items() if key.startswith("conv.")}
    wanted = dict(_MAPS)
    if any(key in own for key in conv):
        wanted |= conv
    elif "cha_scale" in own:
        wanted["cha_scale"] = _MIXES["cha_scale"]
    missing = [key for key in wanted if key not in own]
    if missing:
        raise ValueError(
            f"{name} is an AlignNet that lacks {', '.join(missing)}. Nothing is put in their "
            "place; download the whole file."
        )
    other = sorted(set(own) - set(wanted))
    if other:
        raise ValueError(
            f"{name} is no AlignNet as released: it also holds {other[0]}. Expected conv, "
            "cha_scale or neither, then mlp.layernorm, mlp.projector and mlp.fc."
        )
    _check_sizes(own, wanted, name)
    return AlignNet(own)


def _check_sizes(weights: Mapping[str, torch.Tensor], wanted: Mapping[str, str], name: str) -> None:
    """Each letter stands for one size throughout; the kernel's side is odd."""
    sizes = {"1": 1}
    for key, letters in wanted.items():
        shape = list(weights[key].shape)
        if len(shape) == len(letters):
            for letter, size in zip(letters, shape, strict=True):
                sizes.setdefault(letter, size)
        expected = [sizes.get(letter, letter) for letter in letters]
        if shape != expected or 0 in shape:
            raise ValueError(
                f"{name}: {key} is {shape}, expected [{', '.join(map(str, expected))}] beside the "
                "other weights. The file is damaged or put together from two."
            )
    if "k" in sizes and sizes["k"] % 2 == 0:
        raise ValueError(
            f"{name}: conv.weight has a kernel of {sizes['k']} x {sizes['k']}, expected an odd "
            "side such as 5, which keeps the number of tokens. The file is damaged."
        )
