"""Mail servers that lack something: what the real ones here have cannot be taken from them.

Invariant: each answers by its script and keeps every line that it was told.
"""

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from socket import socket
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any


@dataclass
class Scripted:
    """A running server."""

    port: int = 0
    told: list[bytes] = field(default_factory=list)


@contextmanager
def scripted(
    greeting: bytes, answers: Mapping[bytes, bytes], context: ssl.SSLContext | None = None
) -> Iterator[Scripted]:
    """A server on 127.0.0.1 that answers a line by the first of `answers` whose key is in it.

    `%TAG%` in an answer is the line's first word.
    """
    server = Scripted()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(greeting + b"\r\n")
            for line in self.rfile:
                server.told.append(line.strip())
                tag = line.split()[0]
                for key, answer in answers.items():
                    if key in line:
                        self.wfile.write(answer.replace(b"%TAG%", tag) + b"\r\n")
                        break

    class Server(ThreadingTCPServer):
        daemon_threads = True

        def get_request(self) -> tuple[socket, Any]:
            connection, address = super().get_request()
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            return connection, address

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that refuses our certificate is what is being tested."""

    with Server(("127.0.0.1", 0), Handler) as listening:
        server.port = listening.server_address[1]
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
