"""T5 text into a model whose text input was trained on pictures (Qwen2VL-Flux, section 2.4).

Qwen2VL-Flux maps T5 tokens with an embedder of their own, after which they join the picture's. A
native FLUX.1 has one text input, `txt_in`. What that takes to exactly what the embedder gives is
`c = pinv(W_txt_in) (W_t5 e + b_t5 - b_txt_in)`: `txt_in` reads more dimensions than it gives, so
there is a solution, and this is the shortest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..quoted import told
from ..tokens.tokens import Tokens
from .file import check_values, read_state_dict

# Arrived within this share of the largest value; a larger error means there was no solution.
WORST_ERROR = 1e-3


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear layer's numbers.

    Attributes:
        weight: [out, in].
        bias: [out]; None = none.
        name: What messages call it.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    name: str

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Maps states [..., in] to [..., out] in the states' dtype."""
        bias = None if self.bias is None else self.bias.to(states)
        return torch.nn.functional.linear(states, self.weight.to(states), bias)


@dataclass(frozen=True)
class Bridged:
    """Text on its way into a model.

    Attributes:
        tokens: [B, N, D] float32, as wide as `txt_in` reads, with the text's token map.
        error: The largest difference behind `txt_in`, as a share of the largest value there; in
            float32, before the model rounds anything.
    """

    tokens: Tokens
    error: float


def load_embedder(path: str | Path) -> Linear:
    """Loads Qwen2VL-Flux's t5_embedder: a linear layer `weight` [3072, 4096], `bias` [3072].

    Raises:
        FileNotFoundError: No such file.
        ValueError: A file that cannot be read, or weights of something else.
    """
    path = Path(path)
    weights = read_state_dict(path)
    check_values(weights, path.name)
    shapes = {key: list(value.shape) for key, value in weights.items()}
    weight = shapes.get("weight", [])
    if set(shapes) != {"weight", "bias"} or len(weight) != 2 or shapes["bias"] != weight[:1]:
        raise ValueError(
            f"{path.name} is no T5 embedder: it holds {_few(shapes)}. Expected weight [3072, 4096] "
            "and bias [3072], Qwen2VL-Flux's t5_embedder.pt."
        )
    return Linear(weights["weight"].float(), weights["bias"].float(), path.name)


def bridge(text: Tokens, embedder: Linear, txt_in: Linear) -> Bridged:
    """What `txt_in` takes to what the embedder gives.

    The solution is found in float64 and given in float32.

    Args:
        text: T5 tokens [B, N, D].
        embedder: Of `load_embedder`.
        txt_in: The model's own text input, as it runs.

    Raises:
        ValueError: Widths that do not agree, or a `txt_in` that cannot give what is wanted.
    """
    if text.width != embedder.weight.shape[1]:
        raise ValueError(
            f"The text is {text.width} wide, {embedder.name} reads {embedder.weight.shape[1]}. "
            "Connect T5's conditioning: DualCLIPLoader of type flux, then CLIP Text Encode."
        )
    if embedder.weight.shape[0] != txt_in.weight.shape[0]:
        raise ValueError(
            f"{embedder.name} gives {embedder.weight.shape[0]} dimensions, the text stream behind "
            f"txt_in of {txt_in.name} has {txt_in.weight.shape[0]}. Load the FLUX.1 model that the "
            "embedder was trained with."
        )
    device = txt_in.weight.device
    wanted = embedder(text.states.to(device, torch.float64))
    missing = wanted if txt_in.bias is None else wanted - txt_in.bias.double()
    weight = txt_in.weight.double()
    # W+ = W' (W W')^-1 for independent rows; a factor instead of singular values: seconds, not
    # minutes, at 3072 x 4096.
    factor, failed = torch.linalg.cholesky_ex(weight @ weight.T)
    if int(failed):
        raise ValueError(_no_solution(txt_in))
    solved = torch.cholesky_solve(missing.flatten(0, 1).T, factor)
    states = (weight.T @ solved).T.reshape(*missing.shape[:2], -1).float()
    arrives = txt_in(states)
    error = float((arrives.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))
    if not error <= WORST_ERROR:
        raise ValueError(_no_solution(txt_in))
    return Bridged(replace(text, states=states), error)


def _no_solution(txt_in: Linear) -> str:
    return (
        f"txt_in of {txt_in.name} cannot give what the embedder gives: its rows depend on one "
        "another. Load the FLUX.1 model in another precision, without patches on txt_in."
    )


def _few(shapes: dict[str, list[int]]) -> str:
    some = ", ".join(f"{told(name)} {shape}" for name, shape in list(shapes.items())[:3])
    return some + (", ..." if len(shapes) > 3 else "")
