"""Download of files over HTTP or by pip, with retries and continuation of interrupted transfers.

The content of a file is checked against the record of the file that was first accepted under its name.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TypedDict

from pipelines import __version__, artifacts
from pipelines.download.description import PIP, File
from pipelines.durable import staging
from pipelines.errors import UserError
from pipelines.orphans import PARENT
from pipelines.progress import Progress

TRIES = 4  # attempts per address
CONNECT_SECONDS = 10
PIP_SECONDS = 600  # time limit of pip
WAIT_SECONDS = 0.5  # before the second attempt; doubled before each further one
BLOCK = 1 << 18  # bytes read at once
RECORD = "checksums.json"
FORGET = "Remove it if the files beside it are to be trusted; they are then read and recorded anew."
RUN_PIP = (  # `python -m pip` in a process that ends with this one
    "import runpy; from pipelines.orphans import end_with_parent; end_with_parent(); "
    "runpy.run_module('pip', run_name='__main__', alter_sys=True)"
)
MAGIC = {".gz": b"\x1f\x8b", ".zip": b"PK", ".whl": b"PK"}  # suffix → first two bytes of a file


class Fingerprint(TypedDict):
    """Content hash and size in bytes of an accepted file."""

    sha256: str
    size: int


class Unreachable(Exception):
    """No address offered a file. The message names the addresses and the failures."""


class _Permanent(Exception):
    """A failure that another attempt would not change: no such host, connection refused, status 404."""


def fetch(file: File, folder: Path, mirror: str | None, progress: Progress) -> Path:
    """Return the path of a file of a data set, which is downloaded if it is not on disk.

    An interrupted transfer leaves NAME.part, which the next one continues.

    Args:
        folder: folder of the downloads.
        mirror: web address of a folder that is tried before the addresses of the file.

    Raises:
        Unreachable: no address offered the file; each failure has been reported too.
        UserError: the file is not the one that was first accepted.
    """
    target = folder / file.name
    if not target.exists():
        addresses = ([f"{mirror.rstrip('/')}/{file.name}"] if mirror else []) + list(file.addresses)
        folder.mkdir(parents=True, exist_ok=True)
        failures = []
        for address in addresses:
            try:
                (_pip if address.startswith(PIP) else _http)(address, target, progress)
                break
            except (_Permanent, OSError, http.client.HTTPException, subprocess.SubprocessError) as error:
                failures.append(f"{address}: {_reason(error)}")
                progress.say(f"{failures[-1]}.")
        else:
            raise Unreachable("; ".join(failures))
    return check(target, folder)


def check(path: Path, folder: Path) -> Path:
    """Return the path of a file if no file, or this one, was accepted under its name.

    Args:
        folder: folder of the downloads, which holds the record.

    Raises:
        UserError: another file was accepted; this one stays where it is.
    """
    record = folder / RECORD
    expected = _accepted(record).get(path.name)
    found = _fingerprint(path)
    if expected and expected != found:
        raise UserError(
            f"{path} is not the file that was accepted first: its sha256 is {found['sha256'][:16]}… "
            f"({found['size']:,} bytes), expected {expected['sha256'][:16]}… ({expected['size']:,} bytes). "
            f"Remove it to fetch it again, or its entry in {record} if the new one is right."
        )
    return path


def accept(files: list[Path]) -> None:
    """Record sha256 and size of files that were read without error.

    Args:
        files: paths of files in one folder of downloads.
    """
    record = files[0].parent / RECORD
    artifacts.write_json(record, _accepted(record) | {path.name: _fingerprint(path) for path in files})


def _accepted(record: Path) -> dict[str, Fingerprint]:
    """Return name → fingerprint of the accepted files."""
    if not record.exists():
        return {}
    accepted: dict[str, Fingerprint] = artifacts.read_json(record, dict[str, Fingerprint], FORGET)
    return accepted


def _fingerprint(path: Path) -> Fingerprint:
    return {"sha256": artifacts.digest(path), "size": path.stat().st_size}


def _http(address: str, target: Path, progress: Progress) -> None:
    """Download one address completely, in several attempts.

    Raises:
        _Permanent: another attempt would not help.
        OSError, HTTPException: the last attempt failed.
    """
    part = target.with_name(f"{target.name}.part")
    for attempt in range(TRIES):
        try:
            _transfer(address, part, progress)
            if not _begins_right(part, target.suffix):
                part.unlink()
                raise _Permanent(f"what it sent is no {target.suffix} file")
            part.replace(target)
            return
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise _Permanent(f"HTTP status {error.code}") from None
            failure: Exception = error
        except urllib.error.URLError as error:  # no byte came: an immediate retry would fail again
            raise _Permanent(f"no connection ({error.reason})") from None
        except (OSError, http.client.HTTPException) as error:
            failure = error
        if attempt + 1 < TRIES:
            time.sleep(WAIT_SECONDS * 2**attempt)
    raise failure


def _transfer(address: str, part: Path, progress: Progress) -> None:
    """Append the missing bytes to `part`, or write it anew if the server offers another file.

    Raises:
        OSError: the connection broke, or fewer bytes came than were announced.
    """
    validator = part.with_name(f"{part.name}.etag")  # holds the address of the part and the ETag of the file
    offset, tag = _resume_point(address, part, validator)
    headers = {"User-Agent": f"maskgr/{__version__}", "Accept-Encoding": "identity"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": tag}
    request = urllib.request.Request(address, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=CONNECT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        part.unlink(missing_ok=True)  # the file ends before this byte
        raise OSError("HTTP status 416") from None
    with response:
        content_range = response.headers.get("Content-Range", "")
        if response.status == 206 and not content_range.startswith(f"bytes {offset}-"):
            part.unlink(missing_ok=True)
            raise OSError("it sent another range than it was asked for")
        _receive(response, address, part, validator, offset if response.status == 206 else 0, progress)
    validator.unlink(missing_ok=True)


def _resume_point(address: str, part: Path, validator: Path) -> tuple[int, str]:
    """Return the number of bytes of `part` to continue after, and the ETag of the file they belong to."""
    if not validator.exists():
        return 0, ""
    part_address, _, tag = validator.read_text(encoding="utf-8", errors="replace").partition("\n")
    usable = part.exists() and part_address == address and tag.isascii() and tag.isprintable()
    return (part.stat().st_size if usable else 0), tag


def _receive(
    response: http.client.HTTPResponse,
    address: str,
    part: Path,
    validator: Path,
    offset: int,
    progress: Progress,
) -> None:
    """Write the body of a response to `part`, from byte `offset` on.

    Raises:
        OSError: fewer bytes came than were announced.
    """
    tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
    validator.unlink(missing_ok=True)
    if tag and not tag.startswith("W/"):  # a weak tag does not guarantee the same bytes
        validator.write_text(f"{address}\n{tag}", encoding="utf-8")
    length = response.headers.get("Content-Length")
    total = offset + int(length) if length and length.isdecimal() else None
    done = offset
    with (
        open(part, "ab" if offset else "wb") as out,
        progress.task(part.name.removesuffix(".part"), total, "bytes") as task,
    ):
        while block := response.read(BLOCK):
            out.write(block)
            done += len(block)
            task.update(done)
    if total is not None and done != total:
        raise OSError(f"the connection broke after {done:,} of {total:,} bytes")


def _begins_right(path: Path, suffix: str) -> bool:
    """Return True if the first bytes are those of the file's kind, which is false e.g. for a web page."""
    with open(path, "rb") as file:
        return suffix not in MAGIC or file.read(2) == MAGIC[suffix]


def _pip(address: str, target: Path, progress: Progress) -> None:
    """Download a wheel with pip, which uses the user's package index.

    Raises:
        _Permanent: there is no pip, or pip failed.
    """
    if importlib.util.find_spec("pip") is None:
        raise _Permanent(f"this Python has no pip; `{sys.executable} -m ensurepip` brings it")
    requirement = address.removeprefix(PIP)
    progress.say(f"Asking pip for {requirement}.")
    with staging(target.parent) as folder:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--dest", str(folder)]
        done = subprocess.run(
            [sys.executable, "-c", RUN_PIP, "download", *options, requirement],
            capture_output=True,
            text=True,
            timeout=PIP_SECONDS,
            env={**os.environ, PARENT: str(os.getpid())},
        )
        wheels = list(folder.glob("*.whl"))
        if done.returncode or not wheels:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["pip brought no wheel"]
            raise _Permanent(f"pip failed ({lines[-1]})")
        shutil.move(wheels[0], target)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error).strip().rstrip(".") or type(error).__name__
