"""Ask a chat model over an OpenAI-compatible endpoint: time-out, retries, an on-disk cache; standard library only."""

import hashlib
import http.client
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from triptych_parser import Refusal

from triptych_trainer.rewards.http_post import HTTPReply, post

RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
LONGEST_WAIT_SECONDS = 60.0
MOST_REPLY_BYTES = 4 * 2**20
"""Far more than ``max_tokens`` can take; a server that sends more is no chat endpoint."""


class JudgeError(Refusal, RuntimeError):
    """The judge could not be asked, or its reply holds no score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatClient:
    """Where and how to ask; the key is read from the environment when a question is sent, never stored."""

    url: str
    """Base of the API, such as http://127.0.0.1:8000/v1; `/chat/completions` is added."""
    model: str
    timeout_seconds: float = 60.0
    """For one attempt as a whole: from the name look-up to the last byte of the reply."""
    retries: int = 3
    """Further attempts after a time-out, a broken connection or a status that may pass (429, 5xx)."""
    backoff_seconds: float = 1.0
    """Wait before the first retry; doubles each time; a Retry-After header wins."""
    cache_dir: Path | None = None
    """Replies are kept here by the hash of their whole request; the same question is never paid for twice."""
    api_key_env: str = "OPENAI_API_KEY"
    max_tokens: int = 512
    sleep: Callable[[float], None] = time.sleep

    def ask(self, prompt: str) -> str:
        """Return the reply to one user message at temperature 0; raises JudgeError when all attempts failed."""
        payload = self._payload(prompt)
        entry = self._cache_entry(payload)
        if entry is not None and (reply := _read_reply(entry)) is not None:
            return reply
        reply = self._ask_with_retries(payload)
        if entry is not None:
            _write_reply(entry, reply)
        return reply

    def forget(self, prompt: str) -> None:
        """Drop the cached reply to a question, so that the next run asks again."""
        entry = self._cache_entry(self._payload(prompt))
        if entry is not None:
            entry.unlink(missing_ok=True)

    def _payload(self, prompt: str) -> bytes:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        return json.dumps(body, sort_keys=True).encode()

    def _cache_entry(self, payload: bytes) -> Path | None:
        if self.cache_dir is None:
            return None
        digest = hashlib.sha256(self.url.encode() + b"\n" + payload).hexdigest()
        return Path(self.cache_dir) / digest[:2] / f"{digest}.json"

    def _ask_with_retries(self, payload: bytes) -> str:
        wait = self.backoff_seconds
        for attempt in range(self.retries + 1):
            try:
                reply = self._post(payload)
            except (OSError, http.client.HTTPException) as error:  # time-outs and URLError are OSErrors
                problem = f"{type(error).__name__}: {error}"
            else:
                if reply.status < 300:
                    return self._content(reply.body)
                problem = f"status {reply.status}: {reply.body.decode('utf-8', 'replace')}"
                if reply.status not in RETRIED_STATUS:
                    raise JudgeError(
                        f"judge {self.model!r} at {self.url} refused the request, {problem}; check the address, "
                        f"the model's name and the key in ${self.api_key_env}"
                    )
                wait = _retry_after(reply.headers, wait)
            if attempt < self.retries:
                self.sleep(min(wait, LONGEST_WAIT_SECONDS))
                wait *= 2
        raise JudgeError(
            f"judge {self.model!r} at {self.url} gave no reply in {self.retries + 1} attempts of "
            f"{self.timeout_seconds:g} s, last {problem}; is the server up, and is timeout_seconds long enough?"
        )

    def _post(self, payload: bytes) -> HTTPReply:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.api_key_env):
            headers["Authorization"] = f"Bearer {key}"
        return post(
            f"{self.url.rstrip('/')}/chat/completions",
            body=payload,
            headers=headers,
            timeout_seconds=self.timeout_seconds,
            most_bytes=MOST_REPLY_BYTES,
        )

    def _content(self, body: bytes) -> str:
        if len(body) > MOST_REPLY_BYTES:
            raise JudgeError(
                f"judge {self.model!r} at {self.url} sent more than {MOST_REPLY_BYTES // 2**20} MiB, of which no more "
                "was read; is this an OpenAI-compatible chat endpoint?"
            )
        text = body.decode("utf-8", "replace")
        try:
            content = json.loads(text)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise JudgeError(
                f"judge {self.model!r} at {self.url} sent no choices[0].message.content: {text[:200]!r}; "
                "is this an OpenAI-compatible chat endpoint?"
            ) from error
        return content if isinstance(content, str) else ""


def _retry_after(headers: Message, otherwise: float) -> float:
    value = str(headers.get("Retry-After", ""))
    return float(value) if value.isdigit() else otherwise


def _read_reply(entry: Path) -> str | None:
    try:
        reply = json.loads(entry.read_text(encoding="utf-8"))["reply"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # a damaged entry is asked again and overwritten
        return None
    return reply if isinstance(reply, str) else None


def _write_reply(entry: Path, reply: str) -> None:
    """Write through a temporary file, so that a reader never sees half an entry."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=entry.parent, suffix=".part")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({"reply": reply}, file)
    os.replace(temporary, entry)
