"""What the Triton kernels share: the types they multiply in, and how exactly."""

from typing import Any

import torch
import triton.language as tl

from fusecli.ops import interpreted

TYPES = {
    torch.float32: tl.float32,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
}

# One float32 product is made of three in TF32, which keeps 22 bits of the 24.
PRECISION = "tf32x3"


def product_types(dtype: torch.dtype) -> dict[str, Any]:
    """Return the constants of a kernel that multiplies matrices.

    Values are rounded to DTYPE and multiplied as UNIT, which differs only in the interpreter: its
    products do not know bfloat16.
    """
    narrow = TYPES[dtype]
    unit = tl.float32 if interpreted() else narrow
    return {"DTYPE": narrow, "UNIT": unit, "PRECISION": PRECISION}
