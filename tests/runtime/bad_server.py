"""A server on this machine that misbehaves in every way we know."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves `content`; the attributes say how badly. Every request's path and Range header is in `requests`."""

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.etag = '"one"'
        self.cut_after: list[int | None] = []  # bytes of the body after which answer i closes the connection
        self.statuses: list[int] = []  # statuses of the first answers
        self.length_error = 0  # bytes added to the true Content-Length
        self.says_length = True
        self.knows_range = True
        self.lies_about_range = False
        self.explains_416 = False
        self.stalls = False
        self.released = threading.Event()  # ends a stall
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/song.zip"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_arguments):
        pass

    def do_GET(self):
        server = self.server
        number = len(server.requests)
        server.requests.append((self.path, self.headers["Range"]))
        if number < len(server.statuses) and server.statuses[number] != 200:
            return self.send_error(server.statuses[number])
        start = self.wanted_start()
        if start and start >= len(server.content):
            self.send_response(416)
            if server.explains_416:
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            claimed = 0 if server.lies_about_range else start
            self.send_header("Content-Range", f"bytes {claimed}-{len(server.content) - 1}/{len(server.content)}")
        if server.says_length:
            self.send_header("Content-Length", str(len(body) + server.length_error))
        self.send_header("ETag", server.etag)
        self.end_headers()
        cut = server.cut_after[number] if number < len(server.cut_after) else None
        self.wfile.write(body[:cut])
        self.wfile.flush()
        if server.stalls:
            server.released.wait(10)
        return None

    def wanted_start(self) -> int:
        """First byte to send; the condition of If-Range is honoured."""
        wanted, condition = self.headers["Range"], self.headers["If-Range"]
        if not (wanted and self.server.knows_range) or condition not in (None, self.server.etag):
            return 0
        return int(wanted.removeprefix("bytes=").rstrip("-"))


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    """A running server; programs must be told by ``no_proxy`` to ask it directly."""
    with Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()
