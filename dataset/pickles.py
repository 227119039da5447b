"""Read a pickle that may hold plain values and uint8 arrays, and nothing that runs.

A pickle can name any function and have it called. This reader knows four names, and stands its own harmless classes in
for them, so that not even numpy's own loading code meets unchecked input.
"""

import io
import math
import pickle
from typing import Any

import numpy as np


class _Uint8Type:
    """Stands in for numpy.dtype, of one byte without sign."""

    def __init__(self, code, *_):
        if code not in ("u1", b"u1", "uint8", b"uint8"):
            raise pickle.UnpicklingError(f"an array of type {code!r}, where only uint8 is expected")

    def __setstate__(self, state):
        pass  # byte order and the like: nothing that matters to single bytes


class _ArrayShell:
    """Stands in for numpy.ndarray: keeps shape and bytes."""

    def __setstate__(self, state):
        _version, shape, dtype, fortran, raw = state
        sound = (
            isinstance(dtype, _Uint8Type)
            and isinstance(raw, bytes)
            and isinstance(shape, tuple)
            and all(isinstance(n, int) and n >= 0 for n in shape)
        )
        if not sound or math.prod(shape) != len(raw):
            raise pickle.UnpicklingError("a damaged array")
        self.array = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


def _new_shell(*_) -> _ArrayShell:
    return _ArrayShell()


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _new_shell,  # numpy 1, and the official archives
    ("numpy._core.multiarray", "_reconstruct"): _new_shell,  # numpy 2
    ("numpy", "ndarray"): _ArrayShell,
    ("numpy", "dtype"): _Uint8Type,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which no image archive needs") from None


def read_plain_pickle(content: bytes) -> dict[str, Any]:
    """The dictionary in `content`, keys as str, arrays as read-only numpy.uint8 arrays.

    Raises:
        pickle.UnpicklingError: damaged, not a dictionary, or naming anything beyond uint8 arrays. Nothing was run.
    """
    try:
        loaded = _Reader(io.BytesIO(content), encoding="bytes").load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # the pickle module raises nearly anything on damaged input
        raise pickle.UnpicklingError(f"damaged: {error}") from error
    if not isinstance(loaded, dict):
        raise pickle.UnpicklingError("not a dictionary")
    plain = {}
    for key, value in loaded.items():
        key = key.decode("latin-1") if isinstance(key, bytes) else str(key)
        plain[key] = getattr(value, "array", None) if isinstance(value, _ArrayShell) else value
    return plain
