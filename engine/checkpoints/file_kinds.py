"""What a file is by its first bytes, with the advice for each kind that is no checkpoint."""

import re
import tarfile
import zipfile
from pathlib import Path

from common.errors import RequestError

HEAD = 4096  # bytes that are looked at
SHOWN = 6  # names in a message
TEXT_START = re.compile(rb"[\t\n\r\x20-\x7e]{16}|[\t\n\r\x20-\x7e]+\Z")
WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".pth.tar", ".bin")
SAVE_WEIGHTS = "torch.save(model.state_dict(), FILE)"
# First bytes → what the file is, and the advice.
MAGIC = {
    b"\x1f\x8b": ("compressed by gzip", "unpack it first (gunzip, or tar -xzf)"),
    b"BZh": ("compressed by bzip2", "unpack it first (bunzip2, or tar -xjf)"),
    b"\xfd7zXZ": ("compressed by xz", "unpack it first (unxz, or tar -xJf)"),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "unpack it first (unzstd)"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it first"),
    b"Rar!": ("a rar archive", "unpack it first"),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file, as Keras writes them", f"convert its weights with {SAVE_WEIGHTS}"),
    b"\x93NUMPY": ("a NumPy array", f"save the whole network's weights with {SAVE_WEIGHTS}"),
    b"GGUF": ("a GGUF file", f"save the floating-point weights with {SAVE_WEIGHTS}"),
    b"\x89PNG": ("a PNG picture", "name the file of weights"),
    b"\xff\xd8\xff": ("a JPEG picture", "name the file of weights"),
    b"%PDF": ("a PDF document", "name the file of weights"),
}


def files_in(folder: Path) -> str:
    """Names of files of weights in a folder, for a message; "" if there are none or it is no folder."""
    try:
        names = sorted(file.name for file in folder.iterdir() if file.name.endswith(WEIGHTS_SUFFIXES))
    except (OSError, ValueError):
        return ""
    return f"name a file in it ({', '.join(names[:SHOWN])}), or " if names else ""


def is_safetensors(path: Path) -> bool:
    """True for a file that begins as safetensors do: the length of a JSON header, and the header."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and 2 <= int.from_bytes(start[:8], "little") <= size - 8 and start[8:] == b"{"


def check_kind(path: Path) -> None:
    """Raise RequestError, with advice, for a file that is known to be no PyTorch checkpoint.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    found = _kind(head, path)
    if found is not None:
        what, advice = found
        raise RequestError(f"{path} is {what}, not a PyTorch checkpoint; {advice}")


def _kind(head: bytes, path: Path) -> tuple[str, str] | None:
    """What a file is, and the advice; None for one that may be a checkpoint."""
    if not head:
        return "empty", "fetch or save it again"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer", "fetch the file itself: `git lfs pull` in its repository"
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)", head, re.IGNORECASE):
        return "a web page", "the address leads to a page, not to the file: download the file itself"
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    if head[:1] == b"\x08" and (path.suffix == ".onnx" or b"onnx" in head[:256] or b"pytorch" in head[:256]):
        return "an ONNX file", f"save the weights from PyTorch: {SAVE_WEIGHTS}"
    if head[257:262] == b"ustar":
        return _kind_of_tar(path)
    if head[:1] == b"\x80" and b"_load_from_bytes" in head:
        return "a plain pickle", f"save its weights with {SAVE_WEIGHTS}, for loading a pickle could run code"
    if TEXT_START.match(head) and not head.startswith((b"(", b"c", b"}", b"]")):  # pickles of protocol 0 begin so
        words = " ".join(head[:60].decode("ascii", "replace").split())
        return f"a text ({words[:40]!r})", "name the file of weights"
    return None


def _kind_of_zip(path: Path) -> tuple[str, str] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [record.filename for record in archive.infolist()[:10_000]]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError):
        return None  # damaged: see `read_checkpoint`
    inner = {name.partition("/")[2] for name in names}
    target = str(path.with_suffix(".weights.pth"))
    save = 'save its weights:\npython -c "import torch; torch.save({}, {!r})"'.format
    if any(name.startswith("models/") or name == "serialized_exported_program.json" for name in {*inner, *names}):
        return "a program of torch.export", save(f"torch.export.load({str(path)!r}).state_dict", target)
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return "a TorchScript archive", save(f"torch.jit.load({str(path)!r}).state_dict()", target)
    if "data.pkl" in inner:
        return None
    if any(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays", f"save the weights with {SAVE_WEIGHTS}"
    return "a zip archive", _unpacked(names)


def _kind_of_tar(path: Path) -> tuple[str, str] | None:
    try:
        with tarfile.open(path, "r:") as archive:
            names = [member.name for member, _ in zip(archive, range(10_000), strict=False)]
    except (tarfile.TarError, OSError, EOFError, ValueError):
        names = []
    if {"pickle", "storages", "tensors"} <= set(names):
        return None  # PyTorch before 0.1.10 wrote such
    return "a tar archive", _unpacked(names)


def _unpacked(names: list[str]) -> str:
    held = sorted(name for name in names if name.endswith(WEIGHTS_SUFFIXES))
    return f"unpack it and name a file in it{f': {held[0]}' if held else ''}"
