"""How far two right computations of the same float32 states may lie apart."""

DEEPEST = 36  # decoder layers of the toy models that tests use


def rounding(layer: int = DEEPEST) -> float:
    """Tolerance of a layer, as a share of its largest value.

    Kernels add in other orders on other processors and for other shapes, and every layer adds its
    own rounding to what it is given. Bit equality is asked for only where the same kernels see the
    same shapes.
    """
    return 1e-5 * (1 + (layer if layer >= 0 else DEEPEST) / 12)
