"""The sum of the terms of a loss."""

from collections.abc import Iterable

from torch import Tensor


def summed(terms: Iterable[Tensor]) -> Tensor:
    """Sum of one or more tensors of one shape, added in their order.

    Raises:
        ValueError: there is no term.
    """
    first, *others = terms
    return sum(others, start=first)
