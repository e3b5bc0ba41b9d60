"""A language model that judges, behind HTTP on this machine, and what it is asked about."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from triptych_trainer.rewards import Judge, Row


class ChatServer(ThreadingHTTPServer):
    """Answers with what `plan` returns: (status, body, headers), or waits when told to."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.authorizations, self.busy, self.most_busy = [], [], 0, 0
        self.lock = threading.Lock()
        self.plan = lambda number, prompt: (200, reply('{"score": 1}'), {})

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append((self.path, body))
            server.authorizations.append(self.headers.get("Authorization"))
            number = len(server.requests)
            server.busy += 1
            server.most_busy = max(server.most_busy, server.busy)
        status, text, headers = server.plan(number, body["messages"][0]["content"])
        with server.lock:
            server.busy -= 1
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())
        except OSError:  # the client gave up waiting, as one test wants
            pass

    def log_message(self, *arguments):
        pass


def reply(content):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})


def row(text="<answer>crimson</answer>", answer="red", example_id="s1"):
    prompt = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " which colour {here}?"}]},
    ]
    return Row(text=text, answer=answer, example_id=example_id, source="f:1", prompt=prompt)


def judge(server, **options):
    return Judge(**{"url": server.url, "model": "grader", "retries": 2, **options})
