"""The page and its questions over HTTP, on this machine only."""

import json
import re
import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from triptych_data.pages import fragment
from triptych_parser import Refusal

__all__ = ["ChatServer"]

HOST = "127.0.0.1"
MOST_BYTES = 256 << 20
"""Of one question: its images are sent as base64."""
POLICY = "default-src 'none'; connect-src 'self'; img-src data:; style-src 'self'; script-src 'self'; base-uri 'none'"
FROM_ROW = re.compile(r"^dataset@\w+:1 \(id question\): ")
"""Where errors of rows say that they come from: the page has one question only."""
FILES = {"": ("page", "text/html"), "chat.css": ("style", "text/css"), "chat.js": ("script", "text/javascript")}


class ChatServer(ThreadingHTTPServer):
    """Serves the page under an address that contains a secret, and answers its questions.

    Args:
        port: 0 takes one that is free.
        answer: gets the body of a question; what it raises as a `Refusal` becomes the page's error.
        parts: what the page says, by the names in it: title, temperature, most_tokens.
    """

    daemon_threads = True

    def __init__(self, *, port: int, answer: Callable[[bytes], dict[str, Any]], parts: Mapping[str, str]) -> None:
        super().__init__((HOST, port), _Handler)
        self.answer, self.secret = answer, secrets.token_urlsafe(16)
        self.files = _files(parts)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/{self.secret}/"


def _files(parts: Mapping[str, str]) -> dict[str, bytes]:
    own = resources.files("triptych_trainer.chat") / "assets"
    common = resources.files("triptych_data.pages") / "assets"

    def text(*files: Any) -> str:
        return "\n".join(file.read_text(encoding="utf-8") for file in files)

    return {
        "page": fragment("triptych_trainer.chat", "chat", **parts).encode(),
        "style": text(common / "common.css", own / "chat.css").encode(),
        "script": text(common / "common.js", own / "chat.js").encode(),
    }


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer
    timeout = 60

    def do_GET(self) -> None:
        name = self._name()
        if name is None or name not in FILES:
            self._send(HTTPStatus.NOT_FOUND, b"not found", "text/plain")
            return
        file, kind = FILES[name]
        self._send(HTTPStatus.OK, self.server.files[file], f"{kind}; charset=utf-8")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        # Another page that the browser shows can send forms and texts here, and no JSON.
        if self._name() != "ask" or self.headers.get_content_type() != "application/json":
            self._send(HTTPStatus.NOT_FOUND, b"not found", "text/plain")
        elif not length.isdigit() or int(length) > MOST_BYTES:
            self.close_connection = True
            self._answer({"error": f"the question is larger than {MOST_BYTES >> 20} MiB; send smaller images"})
        else:
            self._answer(self._asked(self.rfile.read(int(length))))

    def _asked(self, body: bytes) -> dict[str, Any]:
        try:
            return self.server.answer(body)
        except Refusal as error:
            return {"error": FROM_ROW.sub("", str(error))}

    def _answer(self, values: dict[str, Any]) -> None:
        self._send(HTTPStatus.OK, json.dumps(values).encode(), "application/json")

    def _name(self) -> str | None:
        """What is asked for under the secret; None for anybody who does not know it, and under other host names."""
        host = self.headers.get("Host", "")
        beginning = f"/{self.server.secret}/"
        known = host in (f"{HOST}:{self.server.server_port}", f"localhost:{self.server.server_port}")
        return self.path.removeprefix(beginning) if known and self.path.startswith(beginning) else None

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the address contains the secret."""
