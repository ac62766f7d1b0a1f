"""A long-lived task: a small HTTP feed on 127.0.0.1 that behaves as feeds do, faults included.

``serve`` is the task: a plain function that works until it is cancelled. ``quote_handler`` has the
answers; what goes wrong on the way is decided in ``faults``.
"""

from __future__ import annotations

from socketserver import ThreadingTCPServer
from threading import Event
from typing import TYPE_CHECKING

from scheduler.examples.faults import Faults
from scheduler.examples.quote_handler import QuoteHandler
from scheduler.examples.replay import Replay

if TYPE_CHECKING:
    from scheduler.context import Context


def serve(ctx: Context, port: int, fault_every: int = 0) -> None:
    """Serve until the run is cancelled. Every ``fault_every``-th answer is spoilt (0: none is)."""
    with QuoteServer(port, fault_every) as server:
        ctx.log.info("quotes.listening", port=server.port, fault_every=fault_every)
        while not ctx.cancelled.is_set():
            server.handle_request()  # returns after server.timeout at the latest


class QuoteServer(ThreadingTCPServer):
    """A thread per request. Closing it lets go of the requests that hang and joins all threads."""

    allow_reuse_address = True  # a restart takes the port again at once
    request_queue_size = 64
    timeout = 0.25  # seconds

    def __init__(self, port: int, fault_every: int = 0) -> None:
        self.replay = Replay()
        self.faults = Faults(fault_every)
        self.closing = Event()
        try:
            super().__init__(("127.0.0.1", port), QuoteHandler)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on 127.0.0.1:{port}: {error.strerror}") from error
        self.port: int = self.server_address[1]  # the one that was chosen, if `port` was 0

    def server_close(self) -> None:
        """Stop listening and wait for the requests under way (at most the handler's timeout)."""
        self.closing.set()
        super().server_close()
