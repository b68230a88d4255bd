"""Tokens: what a gate hands on and every token-wise function takes and returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from ..token_map import roles_in_words, what_is_wrong
from ..token_map import take as take_map
from .beside import Beside
from .beside import take as take_beside


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of one conditioning.

    Attributes:
        states: ``[B, N, D]``, floating point, at least one token.
        token_map: what each token is (see ``token_map.py``), shared by the batch; None if not
            known.
        beside: what its text encoder wrote beside the tensor about its tokens (see ``beside.py``).

    Raises:
        TypeError: ``states`` is not a floating point tensor.
        ValueError: ``states`` is not ``[B, N, D]``, is empty, or the map covers another number of
            tokens.
    """

    states: torch.Tensor
    token_map: dict | None = None
    beside: Beside = field(default_factory=dict)

    def __post_init__(self) -> None:
        states = self.states
        if not isinstance(states, torch.Tensor) or not states.is_floating_point():
            kind = states.dtype if isinstance(states, torch.Tensor) else type(states).__name__
            raise TypeError(f"Tokens are a floating point tensor [B, N, D], this is {kind}.")
        if states.ndim != 3:
            hint = " Add the batch: states.unsqueeze(0)." if states.ndim == 2 else ""
            raise ValueError(
                f"Tokens are [B, N, D] (batch, tokens, width), this tensor is "
                f"{list(states.shape)}.{hint}"
            )
        if 0 in states.shape:
            raise ValueError(f"These tokens are empty: the tensor is {list(states.shape)}.")
        wrong = None if self.token_map is None else what_is_wrong(self.token_map)
        if wrong is not None:
            raise ValueError(f"This is no token map: {wrong}. Make one with new_map, or give None.")
        if self.token_map is not None and self.token_map["n"] != states.shape[1]:
            raise ValueError(
                f"The token map covers {self.token_map['n']} tokens, the tensor has "
                f"{states.shape[1]}. Read the map with read_map, which fits or drops it."
            )

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.states.shape))
        known = roles_in_words(self.token_map) if self.token_map else f"{self.n} tokens, no map"
        return f"Tokens({shape} {str(self.states.dtype).removeprefix('torch.')}; {known})"

    @property
    def batch(self) -> int:
        """B, the number of batch rows."""
        return self.states.shape[0]

    @property
    def n(self) -> int:
        """N, the number of tokens per row."""
        return self.states.shape[1]

    @property
    def width(self) -> int:
        """D, the width of a token."""
        return self.states.shape[2]

    def with_states(self, states: torch.Tensor) -> "Tokens":
        """The same tokens with other values: cast to this dtype, this map kept."""
        return replace(self, states=states.to(self.states.dtype))

    def take(self, indices: Sequence[int]) -> "Tokens":
        """Some of the tokens, in that order, with their part of the map.

        A copy, not a view: a view of 30 text tokens would keep 600 image tokens in memory.

        Args:
            indices: tokens, from 0.
        """
        index = torch.tensor(list(indices), device=self.states.device)
        return Tokens(
            self.states.index_select(1, index),
            take_map(self.token_map, indices),
            take_beside(self.beside, indices),
        )

    def weigh(self, weights: torch.Tensor) -> "Tokens":
        """The same tokens, each multiplied by its weight in float32.

        Args:
            weights: [N].
        """
        factors = weights.to(self.states.device, torch.float32)[:, None]
        return self.with_states(self.states * factors)

    def pool(
        self,
        means: Callable[[torch.Tensor], torch.Tensor],
        token_map: dict,
        firsts: Sequence[int],
    ) -> "Tokens":
        """Fewer tokens made of these.

        Args:
            means: makes [B, n, D] of [B, N, D].
            token_map: of the result.
            firsts: for each of the n tokens the first of those that it is made of, from 0.
        """
        return Tokens(means(self.states), token_map, take_beside(self.beside, firsts))
