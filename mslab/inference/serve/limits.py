"""Limits on connections, requests and images, and the error for a refused request."""

from contextlib import suppress
from pathlib import Path

from mslab.errors import MslabError

BODY = 32 << 20  # bytes per request
IMAGES = 16  # per request
PIXELS = 64_000_000  # per image; 200 MB when decoded
MEMORY = 8 * BODY  # bytes of all requests that are arriving or wait for their answer
WAITING, PER_ADDRESS = 16, 8  # complete requests that wait for their answer: in total, and from one address
CONNECTIONS = 256  # in total; fewer where a process may open few files
PIECES, PIECE = 1000, 64  # a request may arrive in so many pieces, and one more for each so many bytes
QUEUE = 1024  # connections that the system holds until the server accepts them
RESERVED = 24  # files that the server itself may need: worker processes, images, MindSpore

HEADER_SECONDS = 10.0  # for a connection without a complete request header, new or after an answer
BODY_SECONDS = 30.0  # for the rest of a request
ANSWER_SECONDS = 30.0  # for a client to read its answer
IMAGE_SECONDS = 5.0  # for decoding one image
DECODING_SECONDS = 20.0  # for decoding all images of a request


class HTTPError(MslabError):
    """A refused request, with its HTTP status."""

    def __init__(self, status: int, message: str, expected: str, fix: str) -> None:
        super().__init__(message, expected=expected, fix=fix)
        self.status = status


def possible_connections() -> int:
    """How many connections this process has files for. As many may be accepted before others are closed."""
    free = 2 * CONNECTIONS
    with suppress(ImportError, OSError):  # Windows has no such limit
        import resource

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit != resource.RLIM_INFINITY:
            free = limit - len(list(Path("/dev/fd").iterdir())) - RESERVED
    return max(4, min(CONNECTIONS, free // 2))
