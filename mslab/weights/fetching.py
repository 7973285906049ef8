"""Fetch one file over HTTP: under a temporary name, in pieces if the connection breaks, and with the published hash.

The standard library, and not pooch: after a cut that begins at the first byte again, and it compares whole hashes,
where torchvision, timm and mindcv publish the first eight digits.
"""

import contextlib
import errno
import hashlib
import http.client
import logging
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from mslab import files
from mslab.errors import MslabError
from mslab.runtime import disks, signals
from mslab.runtime.console import Meter, working

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("mslab")
TRIES = 5  # in a row that bring nothing new
PAUSE = 1.0  # seconds before the second try; twice as many before each further one
STALL = 30.0  # seconds without a byte, after which a connection counts as broken
BLOCK = 1 << 18  # bytes
MOST = 16 << 30  # bytes of a file
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OFFLINE = (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH)
FINAL = (400, 401, 403, 404, 405, 407, 410, 451, 501)  # answers that another try does not change
AGENT = "mslab (https; fetches published weights)"  # some servers refuse Python's own
PAGE = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<script")


class NotFetched(Exception):
    """The file did not arrive. The text is the reason; what has arrived stays for another try."""


class WrongFile(NotFetched):
    """What arrived is another file, and nothing of it stays."""


class Unwritten(Exception):
    """The disk refused a piece."""


def fetch(address: str, digits: str, target: Path, name: str) -> None:
    """Fetch the file whose sha256 begins with these digits, and give it the name `target`.

    What has arrived before a cut, a kill or Ctrl-C stays beside it as .NAME.part, and the next call continues it.
    Two processes fetch it once. Raises NotFetched; MslabError if the disk refuses; signals.Interrupted.
    """
    files.make_folder(target.parent)
    part = target.with_name(f".{target.name}.part")
    try:
        with exclusive(part, name) as file:
            if files.kind_of(target, links=True):  # another process has fetched it meanwhile
                part.unlink()
                return
            log.info(f"{name}: fetching {address}")
            began, partial = time.perf_counter(), PartialFile(address, digits, file, name, target.parent)
            try:
                partial.run()
            finally:
                if not partial.size:
                    part.unlink()
            files.sync(file)
            part.replace(target)
    except KeyboardInterrupt:
        raise signals.Interrupted(kept(part)) from None
    except (OSError, Unwritten) as error:  # of the disk: those of the network are NotFetched
        problem = error if isinstance(error, OSError) else error.args[0]
        if problem.errno in FULL:
            with contextlib.suppress(OSError):
                part.unlink()
        raise unwritable(target, problem) from error
    seconds = time.perf_counter() - began
    log.info(f"{target}: {disks.size_text(partial.size)} in {seconds:.0f} s, sha256 {partial.hash.hexdigest()}")


def kept(part: Path) -> str:
    with contextlib.suppress(OSError):
        size = disks.size_text(part.stat().st_size)
        return f"the {size} that have arrived are kept; the same command goes on from there"
    return "nothing was written; the same command begins again"


def unwritable(target: Path, error: OSError) -> MslabError:
    """The message for a folder that does not take the file."""
    expected, fix = files.obstacle(error, target.parent)
    return MslabError(
        f"{target} could not be written: {error.strerror or error}.",
        expected=expected,
        fix=f"{fix}, or choose another folder: MSLAB_WEIGHTS=FOLDER",
    )


@contextlib.contextmanager
def exclusive(part: Path, name: str) -> Iterator[IO[bytes]]:
    """The unfinished file, open for this process alone. Waits while another process fetches the same file."""
    while True:
        handle = os.open(part, os.O_RDWR | os.O_CREAT | files.NO_LINK | files.NO_WAIT, 0o666)
        with os.fdopen(handle, "r+b") as file:
            lock(file, name)
            mine = False
            with contextlib.suppress(OSError):  # the process that had it may have renamed or removed it
                mine = os.path.samestat(os.fstat(handle), part.lstat())
            if mine:
                yield file
                return


def lock(file: IO[bytes], name: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info(f"{name}: another process fetches it; waiting for that")
        with working(f"another process fetches {name} …"):
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # the disk has no locks
        log.info(f"note: {name}: this disk has no locks, so only one process at a time may fetch it")


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows an address to another one of HTTP, and from HTTPS to nothing less."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or req.type == "https"):
            raise NotFetched(f"it leads to {newurl[:200]}, which is no address of {req.type.upper()}")
        return super().redirect_request(req, fp, 307 if code == 308 else code, msg, headers, newurl)

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # Python 3.10 does not follow it


class PartialFile:
    """One file on its way: what has arrived of it is in `file`, `size` bytes with this hash."""

    def __init__(self, address: str, digits: str, file: IO[bytes], name: str, folder: Path) -> None:
        self.address, self.digits, self.file, self.name, self.folder = address, digits, file, name, folder
        self.hash, self.size, self.total = hashlib.sha256(), 0, 0
        while block := file.read(BLOCK):
            self.hash.update(block)
            self.size += len(block)
        self.opener = urllib.request.build_opener(Redirects)  # with the proxies of http_proxy, https_proxy, no_proxy

    def run(self) -> None:
        """Fetch what is missing. Raises NotFetched."""
        start = most = self.size
        old, idle = self.size > 0, 0  # old: the beginning is of an earlier call
        if old and not self.is_right():
            log.info(f"{self.name}: {disks.size_text(self.size)} have arrived before; going on from there")
        with Meter(1) as meter:
            while not self.is_right():
                try:
                    complete = self.receive(meter)
                    reason = "the connection ended too early" if self.total else "what it sent has another hash"
                except (OSError, http.client.HTTPException) as error:
                    complete, reason = False, reason_of(error, online=most > start)
                if complete and not self.is_right():
                    self.refuse(old)
                    old, most = False, 0
                    continue
                idle, most = (0 if self.size > most else idle + 1), max(most, self.size)
                if idle == TRIES:
                    raise NotFetched(f"{reason}, {TRIES} times in a row")
                if not self.is_right():
                    log.info(f"note: {self.name}: {reason}, at {disks.size_text(self.size)}; trying again")
                    time.sleep(PAUSE * 2**idle)

    def is_right(self) -> bool:
        return self.size > 0 and self.hash.hexdigest().startswith(self.digits)

    def refuse(self, old: bool) -> None:
        """Drop a whole file with another hash. Raises WrongFile, unless its beginning is of an earlier call."""
        size, found = self.size, self.hash.hexdigest()
        self.begin_anew()
        if not old:
            raise WrongFile(f"it sent another file: {size:,} bytes, with the sha256 {found[:16]}…")
        log.info(f"note: {self.name}: what had arrived before is of another file; fetching all of it")

    def begin_anew(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.hash, self.size = hashlib.sha256(), 0

    def receive(self, meter: Meter) -> bool:
        """Append what one connection brings. Returns whether it has brought all that the server has."""
        headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
        if self.size:
            headers["Range"] = f"bytes={self.size}-"
        try:
            response = self.opener.open(urllib.request.Request(self.address, headers=headers), timeout=STALL)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # the server has no more bytes than these: they are of another file
                self.begin_anew()
            raise
        with response:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {self.size}-"):
                self.begin_anew()  # the server sends the whole file, as those do that know no ranges
            length, chunked = response.length, response.chunked
            self.total = self.size + length if length else 0
            fix = "free some space, or choose another folder: MSLAB_WEIGHTS=FOLDER"
            disks.require_space(self.folder, length or 0, self.name, fix)
            while block := response.read1(BLOCK):
                self.append(block, meter)
        return bool(chunked or (length is not None and self.size >= self.total))

    def append(self, block: bytes, meter: Meter) -> None:
        if not self.size and block[:64].lstrip().lower().startswith(PAGE):
            raise WrongFile("it sent a web page, as the login page of a network")
        if self.size + len(block) > MOST:
            self.begin_anew()
            raise WrongFile(f"it sent more than {disks.size_text(MOST)}")
        try:
            self.file.write(block)
            self.file.flush()  # what has arrived stays if this process is killed
        except OSError as error:
            raise Unwritten(error) from error
        self.hash.update(block)
        self.size += len(block)
        meter.total = max(self.total, self.size, 2)
        of = f" of {self.total / 1e6:.1f}" if self.total else ""
        text = f"{self.size / 1e6:.1f}{of} MB"
        meter.update([[f"{self.name}  {text}", text]], advance=self.size - meter.done)


def reason_of(error: Exception, online: bool) -> str:
    """What went wrong with a connection, in words. Raises NotFetched where another try does not help.

    `online`: whether something has arrived in this call, so that a network that is gone may come back.
    """
    if isinstance(error, urllib.error.HTTPError):
        text = f"it answered {error.code} {error.reason}"
        if error.code in FINAL or error.code // 100 == 3:  # the latter: redirects in a circle
            raise NotFetched(text.splitlines()[0]) from error
        return text.splitlines()[0]
    cause = getattr(error, "reason", error)
    cause = cause if isinstance(cause, Exception) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        raise NotFetched(f"its certificate is refused: {cause.verify_message}") from error
    if isinstance(cause, TimeoutError):
        return f"nothing came for {STALL:.0f} s"
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    if not online and (isinstance(cause, socket.gaierror) or getattr(cause, "errno", 0) in OFFLINE):
        raise NotFetched(f"it cannot be reached: {text}") from error
    return text
