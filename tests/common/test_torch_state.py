"""Torch's settings are the caller's again after a command, however it ends."""

import os

import pytest
import torch

from common.command import guard
from common.errors import RequestError


def state():
    cudnn = torch.backends.cudnn
    return {
        "random": torch.get_rng_state().tolist(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warns only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn": (cudnn.benchmark, cudnn.deterministic),
        "cublas": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }


@pytest.mark.parametrize("ending", [None, RequestError("wrong"), KeyboardInterrupt(), SystemExit(2), KeyError("a bug")])
def test_settings_are_given_back(ending, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)

    @guard
    def main(argv):
        torch.manual_seed(3)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        torch.backends.cudnn.deterministic = not torch.backends.cudnn.deterministic
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        if ending is not None:
            raise ending
        return 0

    before = state()
    if isinstance(ending, KeyError):
        with pytest.raises(KeyError):
            main([])
    else:
        main([])
    assert state() == before
