"""How large the grid of a picture's tokens can be; nothing is made for a larger one."""

from __future__ import annotations

# The largest picture that is looked at has 64 megapixels and its long side is at most 200 times the
# short one (`pictures/upright.py`, Qwen's own bound): at 14 pixels a token 342 thousand tokens, and
# 8100 in its longest row.
MOST_SIDE = 2**13
MOST_CELLS = 2**20  # of one frame
MOST_FRAMES = 2**16
MOST_TOKENS = 2**24  # of all frames


def is_grid(rows: int, cols: int, frames: int = 1) -> bool:
    """Whether a picture or a video can have a grid of tokens of this size.

    Args:
        rows, cols: Of one frame.
        frames: Their number.
    """
    sides = 1 <= rows <= MOST_SIDE and 1 <= cols <= MOST_SIDE and rows * cols <= MOST_CELLS
    return sides and 1 <= frames <= MOST_FRAMES and rows * cols * frames <= MOST_TOKENS


def need_grid(rows: int, cols: int) -> None:
    """Refuses rows and columns that no picture's tokens have.

    Raises:
        ValueError: They are not from 1, or too many to be a picture's.
    """
    if not is_grid(rows, cols):
        raise ValueError(
            f"A token grid has 1 to {MOST_SIDE} rows and columns and at most {MOST_CELLS} tokens, "
            f"this is {rows} x {cols}. Take the numbers from the picture's grid in the token map."
        )
