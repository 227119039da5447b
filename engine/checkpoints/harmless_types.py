"""Values that tools save beside weights and `torch.load(weights_only=True)` does not know, read without their code.

Each type is replaced by a small one of this file: NumPy's numbers and arrays, because NumPy's own unpickling trusts
what a file says of an array's memory; paths, dates and the like, because nothing here reads them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

# The numbers that a file may hold: booleans, integers and floating point, of known sizes.
NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
MODULES_OF_NUMPY = ("numpy.core", "numpy._core")


class Ignored:
    """A value that nothing here reads; takes any arguments and any state."""

    def __new__(cls, *_arguments: Any, **_options: Any) -> "Ignored":
        return super().__new__(cls)

    def __init__(self, *_arguments: Any, **_options: Any):
        pass

    def __setstate__(self, _state: Any) -> None:
        pass


class Text(str):
    """A text of a class of its own, such as PyTorch's version."""

    def __new__(cls, text: Any = "", *_others: Any) -> "Text":
        return super().__new__(cls, text if isinstance(text, str) else "")


class NumberType:
    """A NumPy dtype: a code such as "f8" and the order of its bytes."""

    def __init__(self, code: Any = "", *_others: Any):
        self.code, self.order = str(code).lstrip("<>=|"), "<"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.order = ">"

    def read(self, data: Any) -> np.ndarray | None:
        """The numbers in some bytes; None for other types than numbers."""
        if isinstance(data, str):
            data = data.encode("latin-1")
        if self.code not in NUMBERS or not isinstance(data, bytes) or len(data) % int(self.code[1:]):
            return None
        return np.frombuffer(data, self.order + self.code).astype("=" + self.code)


class NumberArray:
    """A NumPy array; `tensor` is None unless it holds numbers."""

    tensor: Tensor | None = None

    def __init__(self, *_others: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5):
            return
        _, shape, dtype, fortran, data = state
        values = dtype.read(data) if isinstance(dtype, NumberType) else None
        if values is None or not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            return
        if int(np.prod(shape, dtype=object)) == len(values):
            self.tensor = torch.from_numpy(values.reshape(shape, order="F" if fortran is True else "C").copy())


def _number(dtype: Any, data: Any = None) -> Any:
    """The number of a NumPy scalar as one of Python."""
    values = dtype.read(data) if isinstance(dtype, NumberType) else None
    return values.item() if values is not None and len(values) == 1 else Ignored()


def _array(*_others: Any) -> NumberArray:
    return NumberArray()


def _dictionary(*_others: Any) -> dict[Any, Any]:
    return {}


_IGNORED = (
    *(f"pathlib{module}.{kind}Path" for module in ("", "._local") for kind in ("Posix", "Windows", "PurePosix", "")),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    "decimal.Decimal",
    "fractions.Fraction",
    "uuid.UUID",
    "builtins.slice",
    "builtins.range",
    "builtins.frozenset",
)
STAND_INS: list[tuple[Callable[..., Any], str]] = [
    (Text, "torch.torch_version.TorchVersion"),
    (_dictionary, "collections.defaultdict"),
    (NumberType, "numpy.dtype"),
    (NumberArray, "numpy.ndarray"),
    *((_number, f"{module}.multiarray.scalar") for module in MODULES_OF_NUMPY),
    *((_array, f"{module}.multiarray._reconstruct") for module in MODULES_OF_NUMPY),
    *((Ignored, name) for name in _IGNORED),
    (dict, "builtins.dict"),
    (list, "builtins.list"),
    (int, "builtins.int"),
    (float, "builtins.float"),
]
