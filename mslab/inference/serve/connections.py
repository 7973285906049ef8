"""Connections to the server: how many, for how long, and which one is closed if there are too many.

uvicorn limits neither the time for a header, nor that for reading an answer, nor connections without a request.
"""

import asyncio
import logging
import socket
import time
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mslab.escaping import escape_control
from mslab.inference.serve.addresses import Addresses
from mslab.inference.serve.limits import ANSWER_SECONDS, BODY_SECONDS, CONNECTIONS, HEADER_SECONDS, PIECE, PIECES, QUEUE
from mslab.inference.serve.repeats import Repeats

if TYPE_CHECKING:
    from mslab.inference.serve.predictor import Predictor

log = logging.getLogger("mslab")

SECONDS = {  # in each state; the application itself limits the time for a body and for its own work
    "waiting for a request": HEADER_SECONDS,
    "receiving a request": BODY_SECONDS + 5,
    "sending an answer": ANSWER_SECONDS,
    "working": float("inf"),
}


class Parser(h11.Connection):
    """h11's parser; it also refuses a request in very many small chunks, each of which takes as long as a large one."""

    pieces, size = 0, 0  # of the present request

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.pieces, self.size = 0, 0
        elif isinstance(event, h11.Data):
            self.pieces, self.size = self.pieces + 1, self.size + len(event.data)
            if self.pieces > PIECES + self.size // PIECE:
                raise h11.RemoteProtocolError("too many small chunks")
        return event


class Connection(H11Protocol):
    """uvicorn's connection; it also knows its state and since when it has been in it."""

    most = CONNECTIONS

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = Parser(h11.SERVER)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.before: Any = None
        self.since = 0.0
        self.observe()
        if len(self.connections) > self.most:
            self.make_room()

    def state(self) -> str:
        """A key of SECONDS."""
        if self.transport.get_write_buffer_size():
            return "sending an answer"
        if self.cycle is None or self.cycle.response_complete:
            return "waiting for a request"
        if self.cycle.response_started:
            return "sending an answer"
        return "receiving a request" if self.cycle.more_body else "working"

    def observe(self) -> float:
        """Seconds in the present state; a next request begins a new one."""
        now, current = time.monotonic(), (self.cycle, self.state())
        if current != self.before:
            self.before, self.since = current, now
        return now - self.since

    def make_room(self) -> None:
        """Close the oldest connection of the largest group, the same address in the same state.

        So a client that opens many connections closes its own. One whose request is being answered is not closed;
        the application limits their number.
        """
        groups: dict[Any, list[Connection]] = {}
        for other in self.connections:
            if isinstance(other, Connection) and other is not self and not other.transport.is_closing():
                other.observe()
                groups.setdefault((other.client and other.client[0], other.before[1]), []).append(other)
        groups = {key: group for key, group in groups.items() if key[1] != "working"}
        if groups:
            largest = max(groups.values(), key=len)
            min(largest, key=lambda connection: connection.since).transport.abort()
            log.info("more than %d connections: closed the one that was slow for longest", self.most)


class Server(uvicorn.Server):
    """uvicorn's server; it also closes slow connections, logs when it is ready, and stops the predictor."""

    def __init__(
        self,
        config: uvicorn.Config,
        predictor: "Predictor",
        listener: socket.socket,
        repeats: Repeats,
        addresses: Addresses,
    ) -> None:
        super().__init__(config)
        self.predictor, self.repeats = predictor, repeats
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        public = escape_control(addresses.public(port), safe="")
        self.proxy = f"; the proxy's visitors use {public}" if public else ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for listener in sockets or []:
            listener.listen(QUEUE)  # uvicorn's backlog is also how many it accepts at a time
        log.info("ready: %s  (Ctrl-C stops it%s)", self.url, self.proxy)

    async def on_tick(self, counter: int) -> bool:
        """Close each connection that is in one state for too long. uvicorn calls this ten times a second."""
        for connection in self.open_connections():
            if connection.observe() > SECONDS[connection.before[1]]:
                connection.transport.abort()
        self.repeats.report()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.predictor.stop()
        self.repeats.stopping = True
        for connection in self.open_connections():
            if connection.state() != "working":
                connection.transport.abort()
        await asyncio.sleep(0)  # for the end of these connections
        await super().shutdown(sockets=sockets)

    def open_connections(self) -> list[Connection]:
        return [c for c in self.server_state.connections if isinstance(c, Connection)]
