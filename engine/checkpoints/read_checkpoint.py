"""Reads checkpoints of any origin without running code, and finds out which network they belong to."""

import argparse
import os
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.archives import zip_bomb
from common.errors import RequestError
from common.user_paths import check_file
from models import MODELS


def read_checkpoint(path: Path, allow_namespace: bool = False) -> dict[str, Any]:
    """Read the dictionary in a checkpoint file without executing code that a pickle may name.

    Since version 1.6 PyTorch writes zip archives. Every record has a checksum, which `torch.load` ignores; it is
    checked here, so that a flipped bit is an error and not another network. `*.safetensors` has weights alone and no
    checksum.

    Args:
        allow_namespace: accept a pickled argparse.Namespace beside the weights (RepDistiller's `*_last.pth`).

    Raises:
        RequestError: the file is missing, truncated or damaged, is no checkpoint, or holds objects beside weights; or
            the package safetensors is missing.
    """
    check_file(path, "check the path, or train one with train_teacher.py", "checkpoint")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if (bomb := _bomb(path)) is not None:
        raise RequestError(f"{path} {bomb}, which no checkpoint does; it was not loaded: fetch it from another place")
    if (damaged := _damaged_record(path)) is not None:
        raise RequestError(f"{path} is damaged: {damaged} does not match its checksum; fetch or save it again")
    allowed = torch.serialization.safe_globals([argparse.Namespace] if allow_namespace else [])
    try:
        with allowed, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols; what is unsafe is refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RequestError(_explain_refusal(path, str(error))) from None
    except PermissionError:
        raise RequestError(f"checkpoint {path} cannot be read: permission denied; change its permissions") from None
    except (Exception, MemoryError):
        raise RequestError(f"{path} is truncated or no PyTorch checkpoint; fetch or save it again") from None
    if not isinstance(content, dict):
        raise RequestError(f"{path} holds a {type(content).__name__}, not weights; save model.state_dict() instead")
    return content


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise RequestError(f"{path} needs the package safetensors: pip install safetensors") from None
    try:
        return load_file(path)
    except PermissionError:
        raise RequestError(f"checkpoint {path} cannot be read: permission denied; change its permissions") from None
    except Exception:
        raise RequestError(f"{path} is truncated or no safetensors file; fetch or save it again") from None


def _bomb(path: Path) -> str | None:
    """What is wrong with the sizes that a zip archive declares; None if nothing is or the file is none."""
    try:
        if not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            return zip_bomb(archive.infolist(), os.path.getsize(path))
    except Exception:  # a damaged table of contents, which the reading of its records reports
        return None


def _damaged_record(path: Path) -> str | None:
    """The first record of a zip archive that fails its CRC-32; None if none does or the file is no zip archive."""
    try:
        if not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            # PyTorch reads a record with the flag of a directory as empty, whatever it holds.
            folders = [record.filename for record in archive.infolist() if record.external_attr & 0x10]
            return folders[0] if folders else archive.testzip()
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        UnicodeDecodeError,
        ValueError,
    ):
        return "its table of contents"
    except OSError:
        return None  # torch.load fails in the same way and reports it


def _explain_refusal(path: Path, error: str) -> str:
    if "argparse.Namespace" in error:
        return (
            f"{path} holds a pickled argparse.Namespace beside the weights (RepDistiller's *_last.pth do).\n"
            f"If you trust its source, add --allow_namespace; or take ckpt_epoch_240.pth, which has weights only."
        )
    if found := re.search(r"GLOBAL (\S+) (?:was not an allowed global|whose module)", error):
        return (
            f"{path} holds a pickled {found[1]} object, and loading it could run code, so it was not loaded.\n"
            f"Save its weights alone: torch.save(model.state_dict(), ...)."
        )
    return f"{path} is truncated or no PyTorch checkpoint; fetch or save it again"


def is_own_file(content: dict[str, Any]) -> bool:
    """True if the content is that of a weights file of this suite."""
    return content.get("format") == 1 and content.keys() >= {"arch", "mean", "std", "model", "method"}


def find_state_dict(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """Find the weights by name, under "model" or "state_dict" or at the top level.

    Raises:
        RequestError: there are none.
    """
    for candidate in (content.get("model"), content.get("state_dict"), content):
        if (
            isinstance(candidate, dict)
            and candidate
            and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in candidate.items())
        ):
            # DataParallel and DistributedDataParallel put "module." before every name.
            return {key.removeprefix("module."): value for key, value in candidate.items()}
    if {"run_id", "student", "optimizer"} <= content.keys():
        raise RequestError(
            f"{path} is the state of an unfinished run; take the weights of its best epoch, *_best.pth in its folder, "
            f"or finish it by its own command"
        )
    raise RequestError(
        f"{path} holds no state dict under 'model', under 'state_dict' or at the top level; save model.state_dict()"
    )


def find_arch(arch: str | None, content: dict[str, Any], path: Path) -> str:
    """Name of the network that a checkpoint holds: `arch` if given, else from its content, else from its file name.

    Raises:
        RequestError: none of them gives a registered network.
    """
    if arch is not None:
        return MODELS.canonical(arch)
    if isinstance(content.get("arch"), str):
        return MODELS.canonical(content["arch"])
    for name in (path.stem, path.resolve().parent.name):
        mentioned = set(_models_in(name))
        if len(mentioned) == 1:
            return mentioned.pop()
    raise RequestError(
        f"neither {path} nor its name gives the network; name it with --model_t (train_student.py), "
        f"--model_s (transfer_student.py) or --model (evaluate.py)"
    )


def _models_in(text: str) -> Iterator[str]:
    """Registered networks that appear in a file name such as cifar100_resnet56-f2eff4c8 or wrn_40_2_vanilla."""
    for name in sorted(MODELS, key=len, reverse=True):
        pattern = rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])"
        if re.search(pattern, text):
            yield name
            text = re.sub(pattern, " ", text)
