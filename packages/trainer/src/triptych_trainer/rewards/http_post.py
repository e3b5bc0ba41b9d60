"""One POST with a time limit for the whole call and a limit for the reply; standard library only."""

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from typing import Any

from triptych_data.background import in_background

__all__ = ["HTTPReply", "post"]

ERROR_BYTES = 300
"""How much is read of the reply to a request that a server refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPReply:
    """What a server answered."""

    status: int
    headers: Message
    body: bytes
    """At most one byte more than was allowed: a longer body is read no further."""


def post(url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float, most_bytes: int) -> HTTPReply:
    """Send ``body`` and return the reply, whatever its status.

    The time limit holds for everything: name look-up, connection, proxy, TLS, and a reply that comes byte by byte.
    (The time-out of a socket is one for each read.)

    Raises:
        TimeoutError: the whole reply was not there in time; the connection is closed.
        OSError: no connection, or it broke.
        http.client.HTTPException: what came is no HTTP.
    """
    opened: list[socket.socket] = []
    request = urllib.request.Request(url, data=body, headers=dict(headers))
    call = in_background(_exchange, request, timeout_seconds, most_bytes, opened)
    try:
        return call.result(timeout=timeout_seconds)
    except TimeoutError as error:
        raise TimeoutError(f"no whole reply within {timeout_seconds:g} s") from error
    finally:
        for connection in opened:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes the thread where it still reads


def _exchange(
    request: urllib.request.Request, timeout_seconds: float, most_bytes: int, opened: list[socket.socket]
) -> HTTPReply:
    opener = urllib.request.build_opener(_Handler(opened))
    try:
        with opener.open(request, timeout=timeout_seconds) as response:
            return HTTPReply(status=response.status, headers=response.headers, body=response.read(most_bytes + 1))
    except urllib.error.HTTPError as error:
        with error:
            return HTTPReply(status=error.code, headers=error.headers, body=error.read(ERROR_BYTES))


class _Watched:
    """A connection that adds its socket to a list, from which another thread can close it."""

    sock: Any

    def __init__(self, *args: Any, opened: list[socket.socket], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._opened = opened

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self._opened.append(self.sock)


class _Connection(_Watched, http.client.HTTPConnection):
    pass


class _SecureConnection(_Watched, http.client.HTTPSConnection):
    pass


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def __init__(self, opened: list[socket.socket]) -> None:
        super().__init__()
        self._opened = opened

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Connection, req, opened=self._opened)  # type: ignore[arg-type]

    def https_open(self, req: urllib.request.Request) -> Any:
        context = ssl.create_default_context()
        return self.do_open(_SecureConnection, req, opened=self._opened, context=context)  # type: ignore[arg-type]
