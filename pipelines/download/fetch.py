"""Files over HTTP: resumed where they broke off, tried again, checked against what was accepted first."""

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
from pipelines.download.sources import PIP, File
from pipelines.durable import staging
from pipelines.errors import UserError
from pipelines.orphans import PARENT
from pipelines.progress import Progress

TRIES = 4  # of one address
CONNECT_SECONDS = 10
WAIT_SECONDS = 0.5  # before the second try; doubled for each further one
BLOCK = 1 << 18
RECORD = "checksums.json"
FORGET = "Remove it if the files beside it are to be trusted; they are then read and recorded anew."
RUN_PIP = (  # as `python -m pip` does, in a process that ends with this one
    "import runpy; from pipelines.orphans import end_with_parent; end_with_parent(); "
    "runpy.run_module('pip', run_name='__main__', alter_sys=True)"
)
MAGIC = {".gz": b"\x1f\x8b", ".zip": b"PK", ".whl": b"PK"}


class Fingerprint(TypedDict):
    """What a file was when it was accepted."""

    sha256: str
    size: int


class Unreachable(Exception):
    """None of a file's addresses gave it; the message says which were tried and why they failed."""


class _Gone(Exception):
    """An address that further tries will not help: no such host, refused, 404."""


def fetch(file: File, folder: Path, mirror: str | None, progress: Progress) -> Path:
    """A file of a data set, from disk where it was fetched before.

    A transfer that breaks off leaves NAME.part, which the next one continues.

    Args:
        mirror: a folder's web address to try before the file's own ones.

    Raises:
        Unreachable: no address gave the file; each failure was said too.
        UserError: the bytes are not those accepted before.
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
            except (_Gone, OSError, http.client.HTTPException, subprocess.SubprocessError) as error:
                failures.append(f"{address}: {_reason(error)}")
                progress.say(f"{failures[-1]}.")
        else:
            raise Unreachable("; ".join(failures))
    return check(target, folder)


def check(path: Path, folder: Path) -> Path:
    """A file, if it is the one that was accepted before under its name, or the first.

    Raises:
        UserError: it is another; it stays where it is.
    """
    record = folder / RECORD
    expected = _accepted(record).get(path.name)
    found = _fingerprint(path)
    if expected and expected != found:
        raise UserError(
            f"{path} is not the file that was accepted first: its sha256 is {found['sha256'][:16]}… ({found['size']:,} bytes), "
            f"expected {expected['sha256'][:16]}… ({expected['size']:,} bytes). Remove it to fetch it again, "
            f"or its entry in {record} if the new one is right."
        )
    return path


def accept(files: list[Path]) -> None:
    """Record size and sha256 of files that were read without fault."""
    record = files[0].parent / RECORD
    artifacts.write_json(record, _accepted(record) | {path.name: _fingerprint(path) for path in files})


def _accepted(record: Path) -> dict[str, Fingerprint]:
    return artifacts.read_json(record, dict[str, Fingerprint], FORGET) if record.exists() else {}


def _fingerprint(path: Path) -> Fingerprint:
    return {"sha256": artifacts.digest(path), "size": path.stat().st_size}


def _http(address: str, target: Path, progress: Progress) -> None:
    """Bring one address to `target`, whole, with several tries."""
    part = target.with_name(f"{target.name}.part")
    for attempt in range(TRIES):
        try:
            _transfer(address, part, progress)
            if not _begins_right(part, target.suffix):
                part.unlink()
                raise _Gone(f"what it sent is no {target.suffix} file")
            part.replace(target)
            return
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise _Gone(f"HTTP status {error.code}") from None
            failure: Exception = error
        except (
            urllib.error.URLError
        ) as error:  # before the first byte: another try soon would wait in vain again
            raise _Gone(f"no connection ({error.reason})") from None
        except (OSError, http.client.HTTPException) as error:
            failure = error
        if attempt + 1 < TRIES:
            time.sleep(WAIT_SECONDS * 2**attempt)
    raise failure


def _transfer(address: str, part: Path, progress: Progress) -> None:
    """Append to `part` what it lacks, or begin it again where the server's file is another.

    Raises:
        OSError: the connection broke or fewer bytes came than were announced.
    """
    validator = part.with_name(
        f"{part.name}.etag"
    )  # where the part came from, and which version of the file it was
    came_from, _, tag = (
        validator.read_text(encoding="utf-8", errors="replace").partition("\n")
        if validator.exists()
        else ("", "", "")
    )
    usable = part.exists() and came_from == address and tag.isascii() and tag.isprintable()
    have = part.stat().st_size if usable else 0
    headers = {"User-Agent": f"maskgr/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(address, headers=headers), timeout=CONNECT_SECONDS
        )
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        part.unlink(
            missing_ok=True
        )  # nothing there from that byte on: what we have is not the beginning of this file
        raise OSError("HTTP status 416") from None
    with response:
        if response.status == 206 and not response.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        ):
            part.unlink(missing_ok=True)
            raise OSError("it sent another range than it was asked for")
        have = have if response.status == 206 else 0
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
        validator.unlink(missing_ok=True)
        if tag and not tag.startswith("W/"):  # a weak tag does not promise the same bytes
            validator.write_text(f"{address}\n{tag}", encoding="utf-8")
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdecimal() else None
        with (
            open(part, "ab" if have else "wb") as out,
            progress.task(part.name.removesuffix(".part"), total, "bytes") as task,
        ):
            while block := response.read(BLOCK):
                out.write(block)
                have += len(block)
                task.update(have)
    if total is not None and have != total:
        raise OSError(f"the connection broke after {have:,} of {total:,} bytes")
    validator.unlink(missing_ok=True)


def _begins_right(path: Path, suffix: str) -> bool:
    """Whether a file begins as its kind does; a web page sent in its place does not."""
    with open(path, "rb") as file:
        return suffix not in MAGIC or file.read(2) == MAGIC[suffix]


def _pip(address: str, target: Path, progress: Progress) -> None:
    """Bring a wheel by pip, which knows the person's package index."""
    if importlib.util.find_spec("pip") is None:
        raise _Gone(f"this Python has no pip; `{sys.executable} -m ensurepip` brings it")
    requirement = address.removeprefix(PIP)
    progress.say(f"Asking pip for {requirement}.")
    with staging(target.parent) as folder:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--dest", str(folder)]
        command, environment = (
            [sys.executable, "-c", RUN_PIP, "download", *options, requirement],
            {**os.environ, PARENT: str(os.getpid())},
        )
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
        brought = list(folder.glob("*.whl"))
        if done.returncode or not brought:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["pip brought no wheel"]
            raise _Gone(f"pip failed ({lines[-1]})")
        shutil.move(brought[0], target)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error).strip().rstrip(".") or type(error).__name__
