"""How much is taken in, and what is said where a request is not answered."""

from mslab.errors import MslabError

BODY = 32 << 20  # bytes of a request
IMAGES = 16  # of a request
PIXELS = 64_000_000  # of one image; decoded they take 200 MB
WAITING = 8  # requests under way; the next is told to come back, so that memory stays bounded: WAITING * BODY
SECONDS = 30.0  # in which a request has to have arrived


class HTTPError(MslabError):
    """A request that is not answered, with the HTTP status that says so."""

    def __init__(self, status: int, what: str, expected: str, fix: str) -> None:
        super().__init__(what, expected=expected, fix=fix)
        self.status = status
