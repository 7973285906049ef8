"""Limits on requests, and the error for a refused request."""

from mslab.errors import MslabError

BODY = 32 << 20  # bytes per request
IMAGES = 16  # per request
PIXELS = 64_000_000  # per image; 200 MB when decoded
WAITING = 8  # concurrent requests; further ones get status 503, which limits memory to WAITING * BODY
SECONDS = 30.0  # time limit for receiving a request


class HTTPError(MslabError):
    """A refused request, with its HTTP status."""

    def __init__(self, status: int, message: str, expected: str, fix: str) -> None:
        super().__init__(message, expected=expected, fix=fix)
        self.status = status
