"""The judge's client against servers that answer slowly, without end, or not at all."""

import contextlib
import importlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from judge_server import judge, row
from triptych_trainer.rewards import JudgeError, judge_client


class TrickleServer:
    """Sends `head` at once and then `piece` every hundredth of a second, without end."""

    def __init__(self, head, piece):
        self.head, self.piece, self.closed = head, piece, threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with self.socket:
            connection, _ = self.socket.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(self.head)
            while not self.closed.wait(0.01):
                connection.sendall(self.piece)
        self.closed.set()


@pytest.fixture(autouse=True, scope="module")
def connection():
    """The library `openai` is imported before a test takes times."""
    importlib.import_module("triptych_trainer.rewards.judge_connection")


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
        (b"HTTP/1.1 503 Busy\r\n\r\n", b" "),
    ],
    ids=["status", "header", "body", "body of an error"],
)
def test_a_judge_that_sends_byte_by_byte_has_as_long_as_any_other(head, piece):
    """The time-out of a socket is one for each read: such a judge took as long as it liked."""
    slow = TrickleServer(head, piece)
    started = time.monotonic()
    with pytest.raises(JudgeError, match=r"in 1 attempts of 0\.2 s, last ReadTimeout: no whole reply within 0\.2 s"):
        judge(slow, timeout_seconds=0.2, retries=0).score([row()])
    assert time.monotonic() - started < 2
    assert slow.closed.wait(5), "the connection is closed, so that no thread goes on reading"


def test_a_reply_without_end_is_read_no_further_than_the_limit(monkeypatch):
    monkeypatch.setattr(judge_client, "MOST_REPLY_BYTES", 2**20)
    endless = TrickleServer(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 2**18)
    with pytest.raises(JudgeError, match="sent more than 1 MiB, of which no more was read; is this an OpenAI-compat"):
        judge(endless, timeout_seconds=10, retries=3).score([row()])
    assert endless.closed.wait(5)


@pytest.mark.slow
def test_ctrl_c_ends_the_program_at_once(tmp_path):
    """Python waits for the threads of an executor before it ends."""
    silent = socket.create_server(("127.0.0.1", 0))
    code = (
        "import asyncio, signal, sys\n"
        "from triptych_trainer.rewards.judge import judge_reward\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background begins without it
        "judge = judge_reward(url=sys.argv[1], model='grader', timeout_seconds=60)\n"
        "print('asking', flush=True)\n"
        "asyncio.run(judge(['<answer>a</answer>'], answer=['b']))\n"
    )
    asking = subprocess.Popen(
        [sys.executable, "-c", code, f"http://127.0.0.1:{silent.getsockname()[1]}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with asking, silent:
        assert asking.stdout.readline() == b"asking\n"
        connection, _ = silent.accept()
        with connection:
            started = time.monotonic()
            asking.send_signal(signal.SIGINT)
            try:
                _, error = asking.communicate(timeout=30)
            finally:
                asking.kill()
    assert time.monotonic() - started < 10
    assert b"KeyboardInterrupt" in error
