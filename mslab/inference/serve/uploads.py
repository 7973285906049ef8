"""Requests that arrive: their bytes as images, in limited time and memory."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from mslab.inference.serve.limits import BODY, BODY_SECONDS, IMAGES, MEMORY, HTTPError

FORM = "the image as the request body, or a form in which every part is a file named image"
CURL = "curl -F image=@one.jpg -F image=@two.jpg http://127.0.0.1:8000/predict"


@dataclass(eq=False)
class Upload:
    """A request's body, from its first byte to its answer."""

    address: str
    size: int = 0  # bytes in memory
    task: "asyncio.Task[list[bytes]] | None" = None  # reads it; None once it is complete
    dropped: bool = False


@dataclass
class Uploads:
    """All of them, the oldest first."""

    present: list[Upload] = field(default_factory=list)

    @contextmanager
    def upload(self, address: str) -> Iterator[Upload]:
        upload = Upload(address)
        self.present.append(upload)
        try:
            yield upload
        finally:
            self.present.remove(upload)

    async def receive(self, upload: Upload, request: Request) -> list[bytes]:
        """The images of a request. Raises HTTPError, also if it arrives too slowly."""
        upload.task = asyncio.ensure_future(self.images_of(upload, request))
        try:
            return await asyncio.wait_for(upload.task, BODY_SECONDS)
        except asyncio.TimeoutError:
            raise HTTPError(
                408,
                f"The request was not complete after {BODY_SECONDS:g} s.",
                expected=f"the complete request within {BODY_SECONDS:g} s",
                fix="send fewer or smaller images",
            ) from None
        except asyncio.CancelledError:
            if not upload.dropped:
                raise
            raise HTTPError(
                503,
                f"The requests that arrive are larger than {MEMORY >> 20} MiB together.",
                expected="less at a time, or faster",
                fix="try again soon",
            ) from None
        finally:
            upload.task = None

    async def images_of(self, upload: Upload, request: Request) -> list[bytes]:
        """The form parts named `image`, or the body itself. Raises HTTPError."""
        body = self.bounded(upload, request)
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            content = b"".join([chunk async for chunk in body])
            if not content:
                raise HTTPError(400, "The request contains no image.", expected=FORM, fix=CURL)
            return [content]
        parser = MultiPartParser(request.headers, body)
        parser.spool_max_size = BODY  # in memory: files could be too many, or fill a disk
        try:
            form = await parser.parse()
        except (MultiPartException, KeyError) as error:
            reason = getattr(error, "message", "") or "its Content-Type has no boundary"
            raise HTTPError(400, f"The form cannot be read: {reason}", expected=FORM, fix=CURL) from None
        try:
            parts = form.multi_items()
            if not parts or any(name != "image" or not isinstance(part, UploadFile) for name, part in parts):
                raise HTTPError(400, "The form contains no image, or a part that is not one.", expected=FORM, fix=CURL)
            if len(parts) > IMAGES:
                raise HTTPError(
                    413,
                    f"The request contains {len(parts)} images.",
                    expected=f"at most {IMAGES}",
                    fix="send them in several requests",
                )
            return [await part.read() for _, part in parts if isinstance(part, UploadFile)]
        finally:
            await form.close()

    async def bounded(self, upload: Upload, request: Request) -> AsyncGenerator[bytes, None]:
        """Yield the body in chunks. Raises HTTPError if it is, or declares to be, too large."""
        declared = int(request.headers.get("content-length", 0))
        too_large = HTTPError(
            413,
            f"The request is larger than {BODY >> 20} MiB.",
            expected=f"at most {BODY >> 20} MiB for all images together",
            fix="send fewer or smaller images",
        )
        if declared > BODY:
            raise too_large
        async for chunk in request.stream():
            upload.size += len(chunk)
            if upload.size > BODY:
                raise too_large
            self.make_room()
            yield chunk

    def make_room(self) -> None:
        """Drop incomplete uploads until all fit into MEMORY: each time the oldest of the address that has most."""
        while sum(upload.size for upload in self.present) > MEMORY:
            sizes: Counter[str] = Counter()
            for upload in self.present:
                if upload.task:
                    sizes[upload.address] += upload.size
            if not sizes:
                return
            largest = max(sizes, key=lambda address: sizes[address])
            oldest = next(upload for upload in self.present if upload.task and upload.address == largest)
            assert oldest.task
            oldest.task.cancel()
            oldest.task, oldest.size, oldest.dropped = None, 0, True


class Body:
    """Wrapper of uvicorn's receive() that knows whether more of the request will follow."""

    def __init__(self, receive: Any) -> None:
        self._receive, self.more = receive, True

    async def receive(self) -> Any:
        message = await self._receive()
        self.more = message.get("more_body", False)
        return message


async def drain(body: Body) -> None:
    """Read and discard the rest of a refused request for up to 1 s: clients read the answer only after sending."""

    async def rest() -> None:
        while body.more:
            await body.receive()

    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(rest(), 1)
