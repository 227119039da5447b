"""Numbers for tests: random tensors, the same ones in NumPy, and how near a result must come in each precision."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
seeds = st.integers(0, 2**32 - 1)
few = partial(settings, deadline=None, max_examples=25)  # examples of a property


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers that depend on the seed alone, drawn in double precision and rounded to the dtype."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random rows of length 1."""
    return torch.nn.functional.normalize(normal(*shape, seed=seed)).to(dtype)


def arrays(*tensors: Tensor) -> list[np.ndarray]:
    """The very same numbers in NumPy, in double precision."""
    return [tensor.detach().double().numpy() for tensor in tensors]


def assert_near(found: Tensor, expected, double: float = 1e-8, single: float = 2e-4) -> None:
    """Fail unless `found` is as near as rounding allows: to `double` in float64, else to `single`.

    Both are relative to numbers above 1 and absolute below.
    """
    tolerance = double if found.dtype == torch.float64 else single
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


def assert_gradient(loss: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Compare the gradient of a loss with finite differences, in each of its inputs (float64)."""
    assert torch.autograd.gradcheck(loss, [tensor.detach().clone().requires_grad_() for tensor in inputs])
