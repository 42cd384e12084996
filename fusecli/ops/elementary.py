"""Elementary functions for which NumPy serves the CPU better than torch's own.

Both work on the same memory. Torch hands these to a vector library that is a third as fast on some
processors, and whose square root can miss the nearest double by the last bit.
"""

import numpy as np
from torch import Tensor


def root(values: Tensor) -> Tensor:
    """Return the square root to the nearest double, in place.

    The last bit can break a tie between two gradients, and some metrics ask which one is larger.
    """
    if values.device.type == "cpu":
        np.sqrt(values.numpy(), out=values.numpy())
        return values
    return values.sqrt_()


def log(values: Tensor) -> Tensor:
    """Return the natural logarithm, in place."""
    if values.device.type == "cpu":
        np.log(values.numpy(), out=values.numpy())
        return values
    return values.log_()
