"""Fetch a file from the first address that serves the right bytes, continuing where an earlier attempt stopped."""

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import requests
from tqdm import tqdm

from common.errors import RequestError
from common.files import digest_of, explained_write_errors, make_folder, sync_folder
from common.lock import only_one_process
from common.user_paths import file_is_there

TIMEOUT = (15, 60)  # seconds: to connect, and between two pieces
ATTEMPTS = 5  # at one address, and only while each attempt brings the file further
_PIECE = 1 << 16  # bytes; a piece that is cut is lost


class _Failed(Exception):
    """One attempt at one address failed; the text is the reason."""


def download(
    urls: Sequence[str],
    destination: Path | str,
    *,
    md5: str | None = None,
    sha256: str | None = None,
    sha256_prefix: str | None = None,
    advice: str = "check the network, or put the file there by hand",
) -> Path:
    """Fetch `destination` from the first of `urls` that works, unless the right file exists.

    Bytes are collected in `destination` + ".part", which is renamed when the checksum agrees. A ".part" of an earlier
    attempt is continued (HTTP Range) if there is a checksum; without one nothing tells whose bytes it holds.

    Args:
        urls: addresses of the same file, the best first.
        md5, sha256, sha256_prefix: digests of the content, all optional; without any only the size is checked.
        advice: one line for the user, for the case that every address fails.

    Returns:
        `destination` as a Path.

    Raises:
        RequestError: every address failed; the message has two lines: the attempts, and `advice`.
        RunError: the file cannot be written.
    """
    destination = Path(destination)
    digests = {"md5": md5, "sha256": sha256 or sha256_prefix}
    checks = {algorithm: digest.lower() for algorithm, digest in digests.items() if digest}
    make_folder(destination.parent)
    with only_one_process(destination.with_name(f".{destination.name}.lock")):
        if file_is_there(destination, "move it away"):
            reason = _wrong_checksum(destination, checks)
            if reason is None:
                return destination
            _say(f"{destination} is not the expected file ({reason}); fetching it again")
        reasons = []
        for url in urls:
            try:
                with explained_write_errors(destination):
                    _fetch_from(url, destination, checks)
            except _Failed as failure:
                reasons.append(f"{url} ({failure})")
                continue
            if reasons:  # else they are in the error
                _say(f"{destination.name} comes from {url}; tried before: {'; '.join(reasons)}")
            return destination
    raise RequestError(f"cannot fetch {destination.name}: tried {'; '.join(reasons) or 'no address'}\n{advice}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _wrong_checksum(path: Path, checks: dict[str, str]) -> str | None:
    """Which checksum differs, and how; None if all agree (a prefix is enough)."""
    for algorithm, expected in checks.items():
        found = digest_of(path, algorithm)
        if not found.startswith(expected):
            return f"{algorithm} is {found[: max(8, len(expected))]}, not {expected}"
    return None


def _fetch_from(url: str, destination: Path, checks: dict[str, str]) -> None:
    """Fetch `destination` from one address; raises _Failed."""
    part = destination.with_name(destination.name + ".part")
    if not checks:
        part.unlink(missing_ok=True)
    inherited = _size(part)
    _fetch_whole(url, part)
    reason = _wrong_checksum(part, checks)
    if reason is not None and inherited:
        # The first bytes came from an earlier attempt or another address: start again before blaming this one.
        part.unlink(missing_ok=True)
        _fetch_whole(url, part)
        reason = _wrong_checksum(part, checks)
    if reason is not None:
        part.unlink(missing_ok=True)
        raise _Failed(f"it served another file: {reason}")
    os.replace(part, destination)
    sync_folder(destination.parent)


def _fetch_whole(url: str, part: Path) -> None:
    """Continue where the connection was cut, as long as each attempt gains bytes."""
    for attempt in range(1, ATTEMPTS + 1):
        before = _size(part)
        try:
            return _fetch_once(url, part)
        except requests.RequestException as error:
            if attempt == ATTEMPTS or _size(part) <= before:
                raise _Failed(_reason(error)) from error


def _fetch_once(url: str, part: Path) -> None:
    """Append to `part` by one request; start it again if the server does not continue from its end."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity"}  # compressed in transit, sizes and ranges would not be the file's
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if have and response.status_code == 416:
            if _total(response) == have:
                return  # it had been cut after the last byte
            part.unlink()
            return _fetch_once(url, part)
        if response.status_code not in (200, 206):
            raise _Failed(f"HTTP {response.status_code} {response.reason}")
        if response.status_code == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            if not have:
                raise _Failed("it sent a part of the file where the whole was requested")
            part.unlink()
            return _fetch_once(url, part)
        continues = response.status_code == 206
        length = response.headers.get("Content-Length")
        start = have if continues else 0
        total = start + int(length) if length is not None else None
        if length is not None and int(length) > (free := shutil.disk_usage(part.parent).free):
            raise _Failed(f"its {int(length) >> 20} MiB do not fit into {part.parent}, where {free >> 20} MiB are free")
        with (
            open(part, "ab" if continues else "wb") as file,
            tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None) as bar,
        ):
            for piece in response.iter_content(_PIECE):
                file.write(piece)
                bar.update(len(piece))
            file.flush()
            os.fsync(file.fileno())
    if total is not None and _size(part) != total:
        raise requests.ConnectionError(f"cut after {_size(part)} of {total} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _total(response: requests.Response) -> int | None:
    """Size of the whole file according to a response with status 416 ("Content-Range: bytes */123")."""
    match = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _reason(error: requests.RequestException) -> str:
    """A short reason in place of a chain of nested exceptions."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, requests.Timeout):
        return "no response in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    text = str(error)
    if isinstance(error, requests.ConnectionError) and not text.startswith("cut after"):
        return "no connection"
    return text.splitlines()[0][:120] if text else type(error).__name__
