"""The explorer page, live: the models that it shows translate what is typed on it, on this machine alone.

GET / is the page. POST /translate takes JSON, {"text": SENTENCE, "forced": [[RANK, ...], ...]}, and answers with the
views of all variants: with ranks, the decoder of a variant takes at its first steps the pieces of these ranks among the
likeliest in place of the likeliest, and goes on greedily from there.

The server listens on the loopback address. A page of another origin can still send requests there through a browser,
and a name can be made to point there, so that a request with another Host or Origin is refused.
"""

import json
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from hourglass.errors import UserError

ADDRESS = "127.0.0.1"


# Bytes of a request at most: a sentence, and a rank for each step.
LONGEST_REQUEST = 20_000


class Translator(Protocol):
    """What answers a request; see `explorer.LiveModels`."""

    def translate(self, text: str, forced: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Return a sentence of the page's data, for a text."""


class LiveServer(ThreadingHTTPServer):
    """Serves a page, and answers its requests one after the other.

    Args:
        page: the page.
        translator: answers the requests.
        port: to listen on; 0: any that is free.

    Raises:
        UserError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, page: str, translator: Translator, port: int):
        self.page = page.encode("utf-8")
        self.translator = translator
        self.lock = threading.Lock()  # A model is asked by one thread at a time.
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise UserError(
                f"port: {port} cannot be served ({error.strerror}): set port=0 for one that is free"
            ) from None
        self.hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{ADDRESS}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer
    timeout = 30  # seconds that a connection may be silent

    def do_GET(self) -> None:
        if self._refused():
            return
        if self.path != "/":
            self._answer(HTTPStatus.NOT_FOUND, b"no such page", "text/plain")
        else:
            self._answer(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        if self._refused():
            return
        if self.path != "/translate":
            self._answer(HTTPStatus.NOT_FOUND, b"no such page", "text/plain")
            return
        try:
            text, forced = _read_request(self.rfile.read(self._length()))
            with self.server.lock:
                answer = self.server.translator.translate(text, forced)
        except UserError as error:
            self._answer_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        else:
            self._answer_json(HTTPStatus.OK, answer)

    def _refused(self) -> bool:
        """Answer a request of another host or origin with an error, and tell whether it is one."""
        origin = self.headers.get("Origin")
        allowed = self.headers.get("Host") in self.server.hosts and (
            origin is None or origin.removeprefix("http://") in self.server.hosts
        )
        if not allowed:
            self._answer(HTTPStatus.FORBIDDEN, b"for this machine alone", "text/plain")
        return not allowed

    def _length(self) -> int:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LONGEST_REQUEST:
            self.close_connection = True
            raise UserError(f"the request is too long: at most {LONGEST_REQUEST:,} bytes")
        return int(length)

    def _answer_json(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._answer(status, json.dumps(content).encode("utf-8"), "application/json")

    def _answer(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: what is typed is nobody's business."""


def _read_request(body: bytes) -> tuple[str, list[list[int]]]:
    """Return the text, with one space between words as in a corpus, and the ranks of a request.

    Raises:
        UserError: it is malformed.
    """
    try:
        content = json.loads(body)
        text, forced = content["text"], content.get("forced", [])
        ranks = [[int(rank) for rank in row] for row in forced]
        text = " ".join(text.split())
        text.encode("utf-8")  # JSON can write half of a surrogate pair.
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise UserError("the request is malformed") from None
    if not text:
        raise UserError("there is no text")
    return text, ranks
