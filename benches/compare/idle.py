"""Memory of connections that do nothing: each has done one request and is kept alive."""

import socket
import time

from .processes import rss_kib
from .proxies import Recipe, Running, Stage
from .workloads import GET1K

REQUEST = f"GET {GET1K.target} HTTP/1.1\r\nhost: example.com\r\n\r\n".encode()
# Until what the last requests borrowed has been given back.
SETTLE_SECONDS = 2


def idle_rss(recipe: Recipe, stage: Stage, counts: list[int]) -> list[int]:
    """RSS in KiB with that many idle connections."""
    held: list[socket.socket] = []
    try:
        with recipe.run(stage, clients=max(counts) + 100) as proxy:
            found = []
            for count in counts:
                while len(held) < count:
                    held.append(connect(proxy))
                time.sleep(SETTLE_SECONDS)
                found.append(rss_kib(proxy.process.pid))
            check_alive(held)
            return found
    finally:
        for connection in held:
            connection.close()


def connect(proxy: Running) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", proxy.port), 30)
    connection.sendall(REQUEST)
    answer = b""
    while (end := answer.find(b"\r\n\r\n")) < 0 or len(answer) < end + 4 + GET1K.answer_bytes:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError(f"{proxy.name} closed an idle connection after {answer!r}")
        answer += piece
    return connection


def check_alive(held: list[socket.socket]) -> None:
    """A proxy that had closed some of them would look thrifty."""
    for connection in held:
        connection.setblocking(False)
        try:
            raise ConnectionError(f"an idle connection was closed: {connection.recv(1)!r}")
        except BlockingIOError:
            continue
