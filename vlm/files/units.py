"""Units of memory, as the widgets count them."""

KILOBYTE = 1024
MEGABYTE = 1024**2
GIGABYTE = 1024**3
_MOST = 2**50  # megabytes: more than any machine has


def in_bytes(megabytes: float) -> int:
    """A bound in MB (2**20 bytes) in bytes; one that no memory reaches as a bound like that.

    Args:
        megabytes: From 0, Inf included.
    """
    return int(min(megabytes, _MOST) * MEGABYTE)
