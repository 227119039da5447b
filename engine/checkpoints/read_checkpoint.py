"""Reads checkpoints of any origin without running code."""

import argparse
import os
import pickle
import re
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from common.archives import zip_bomb
from common.errors import RequestError
from common.user_paths import check_file
from engine.checkpoints.exports.own_safetensors import content_of, read_metadata
from engine.checkpoints.file_kinds import check_kind, files_in, is_safetensors
from engine.checkpoints.harmless_types import STAND_INS

SAFE_PROTOCOL = 3  # of pickle: the latest that torch.load reads with weights_only


def read_checkpoint(path: Path, allow_namespace: bool = False) -> dict[str, Any]:
    """Read the dictionary in a checkpoint file (see `read_content`).

    Raises:
        RequestError: as `read_content`, or the file holds something else.
    """
    content = read_content(path, allow_namespace)
    if not isinstance(content, dict):
        raise RequestError(f"{path} holds a {type(content).__name__}, not weights; save model.state_dict() instead")
    return content


def read_content(path: Path, allow_namespace: bool = False) -> Any:
    """Read a checkpoint file without executing code that a pickle may name.

    Since version 1.6 PyTorch writes zip archives. Every record has a checksum, which `torch.load` ignores; it is
    checked here, so that a flipped bit is an error and not another network. A safetensors file, whatever its name, has
    weights alone and no checksum.

    Args:
        allow_namespace: accept a pickled argparse.Namespace beside the weights (RepDistiller's `*_last.pth`).

    Raises:
        RequestError: the file is missing, truncated or damaged, is no checkpoint, or holds objects beside weights; or
            the package safetensors is missing.
    """
    check_file(path, f"{files_in(path)}check the path, or train one with train_teacher.py", "checkpoint")
    try:
        if path.suffix == ".safetensors" or is_safetensors(path):
            return _read_safetensors(path)
        check_kind(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    if (bomb := _bomb(path)) is not None:
        raise RequestError(f"{path} {bomb}, which no checkpoint does; it was not loaded: fetch it from another place")
    if (damaged := _damaged_record(path)) is not None:
        raise RequestError(f"{path} is damaged: {damaged} does not match its checksum; fetch or save it again")
    if (protocol := _pickle_protocol(path)) > SAFE_PROTOCOL:
        raise RequestError(
            f"{path} was saved with pickle_protocol={protocol}, which PyTorch reads only by running its code;\n"
            f"save it again without that argument: torch.save(model.state_dict(), FILE)"
        )
    allowed: list[Any] = [*STAND_INS, *([argparse.Namespace] if allow_namespace else [])]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols; what is unsafe is refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RequestError(_explain_refusal(path, str(error))) from None
    except PermissionError as error:
        raise _unreadable(path, error) from None
    except (Exception, MemoryError):
        raise RequestError(f"{path} is truncated or no PyTorch checkpoint; fetch or save it again") from None


def _unreadable(path: Path, error: OSError) -> RequestError:
    advice = "change its permissions" if isinstance(error, PermissionError) else "check the path"
    return RequestError(f"checkpoint {path} cannot be read: {error.strerror or error}; {advice}")


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise RequestError(f"{path} needs the package safetensors: pip install safetensors") from None
    try:
        tensors = load_file(path)
        return content_of(tensors, read_metadata(path)) or tensors
    except OSError as error:
        raise _unreadable(path, error) from None
    except Exception:
        check_kind(path)
        if zipfile.is_zipfile(path):
            raise RequestError(f"{path} is no safetensors file but PyTorch's; rename it to .pth") from None
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


def _pickle_protocol(path: Path) -> int:
    """The protocol of the pickle in a checkpoint, of PyTorch's present form or its former one; 0 if it has none."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.partition("/")[2] == "data.pkl")
                with archive.open(name) as record:
                    start = record.read(2)
        else:
            with path.open("rb") as file:
                start = file.read(2)
    except (OSError, ValueError, StopIteration, zipfile.BadZipFile, NotImplementedError):  # damaged: torch.load says so
        return 0
    return start[1] if len(start) == 2 and start[:1] == b"\x80" else 0


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
            f"{path} holds a pickled argparse.Namespace beside the weights (timm's and RepDistiller's *_last.pth do).\n"
            f"Accept this one type with --allow_namespace; or take a file of weights only, such as ckpt_epoch_240.pth."
        )
    if found := re.search(r"GLOBAL (\S+) (?:was not an allowed global|whose module)", error):
        return (
            f"{path} holds a pickled {found[1]} object, and loading it could run code, so it was not loaded.\n"
            f"Save its weights alone: torch.save(model.state_dict(), ...)."
        )
    return f"{path} is truncated or no PyTorch checkpoint; fetch or save it again"


def is_own_file(content: Any) -> bool:
    """True if the content is that of a weights file of this suite."""
    return (
        isinstance(content, dict)
        and content.get("format") == 1
        and content.keys() >= {"arch", "mean", "std", "model", "method"}
    )
