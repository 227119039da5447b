"""Numbers for tests: random tensors, the same ones in NumPy, and how near a result must come in each precision."""

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
seeds = st.integers(0, 2**32 - 1)


def normal(*shape, seed=0, dtype=torch.float64):
    """Drawn in double precision, then rounded to the dtype."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def arrays(*tensors):
    """The very same numbers in NumPy, in double precision."""
    return [tensor.detach().double().numpy() for tensor in tensors]


def assert_near(found, expected, double=1e-9, single=1e-4):
    """To `double` if the tensor found is of float64, else to `single`, what rounding allows; relative or absolute."""
    tolerance = double if found.dtype == torch.float64 else single
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


def naive_pool(maps, height, width):
    """Adaptive average: cell i covers the rows from floor(i·H/h) to ceil((i+1)·H/h)."""
    high, wide = maps.shape[2:]
    pooled = np.zeros((*maps.shape[:2], height, width))
    for i, j in np.ndindex(height, width):
        rows = slice(i * high // height, -(-(i + 1) * high // height))
        columns = slice(j * wide // width, -(-(j + 1) * wide // width))
        pooled[:, :, i, j] = maps[:, :, rows, columns].mean(axis=(2, 3))
    return pooled


def naive_common(a, b):
    size = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
    return naive_pool(a, *size), naive_pool(b, *size)
