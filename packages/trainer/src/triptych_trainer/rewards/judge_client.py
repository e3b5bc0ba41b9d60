"""Ask a chat model over an OpenAI-compatible endpoint, through the library `openai`, with replies kept on disk."""

import asyncio
import hashlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych_trainer.errors import UsageError
from triptych_trainer.rewards.judge_error import JudgeError

MOST_REPLY_BYTES = 4 * 2**20
"""Far more than ``max_tokens`` can take; a server that sends more is no chat endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatClient:
    """Asks a chat endpoint; the key is read from the environment when questions are sent, and never stored."""

    url: str
    """Base of the API, such as http://127.0.0.1:8000/v1; `/chat/completions` is added."""
    model: str
    timeout_seconds: float = 60.0
    """For one attempt as a whole: from the name look-up to the last byte of the reply."""
    retries: int = 3
    """Further attempts after a time-out, a broken connection or a status that may pass (429, 5xx); `openai` waits
    between them, as long as the server's Retry-After says."""
    cache_dir: Path | None = None
    """Replies are kept here by the hash of their whole request; the same question is never paid for twice."""
    api_key_env: str = "OPENAI_API_KEY"
    max_tokens: int = 512

    def __post_init__(self) -> None:
        """Check that the library is installed; raises UsageError."""
        if not _is_installed("openai"):
            raise UsageError(
                "the reward judge needs the package openai, which is not installed: "
                "pip install 'triptych-trainer[judge]'"
            )

    async def ask_all(self, contents: Sequence[str], *, concurrency: int) -> list[str | JudgeError]:
        """Return the reply to each user message at temperature 0, or the error with which all attempts ended.

        ``contents`` are the messages' contents as JSON: a text, or a list of parts. At most ``concurrency`` questions
        are under way at the same time.
        """
        replies: list[str | JudgeError | None] = [self._kept(content) for content in contents]
        if None not in replies:
            return [reply for reply in replies if reply is not None]
        from triptych_trainer.rewards.judge_connection import connection  # it imports openai, which takes a second

        places = asyncio.Semaphore(concurrency)
        key = os.environ.get(self.api_key_env)
        async with connection(
            url=self.url,
            name=f"judge {self.model!r} at {self.url}",
            key=key,
            key_name=self.api_key_env,
            retries=self.retries,
            attempt_seconds=self.timeout_seconds,
            most_bytes=MOST_REPLY_BYTES,
        ) as ask:

            async def reply_to(content: str) -> str | JudgeError:
                async with places:
                    try:
                        reply = await ask(self.request(content))
                    except JudgeError as error:
                        return error
                if (entry := self._cache_entry(content)) is not None:
                    _write_reply(entry, reply)
                return reply

            waiting = [reply_to(content) for content, kept in zip(contents, replies, strict=True) if kept is None]
            found = iter(await asyncio.gather(*waiting))
        return [next(found) if reply is None else reply for reply in replies]

    def request(self, content: str) -> dict[str, Any]:
        """Return what is sent: the arguments of `chat.completions.create`."""
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": json.loads(content)}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }

    def forget(self, content: str) -> None:
        """Drop the cached reply to a question, so that the next run asks again."""
        if (entry := self._cache_entry(content)) is not None:
            entry.unlink(missing_ok=True)

    def _kept(self, content: str) -> str | None:
        entry = self._cache_entry(content)
        return None if entry is None else _read_reply(entry)

    def _cache_entry(self, content: str) -> Path | None:
        if self.cache_dir is None:
            return None
        payload = json.dumps(self.request(content), sort_keys=True).encode()
        digest = hashlib.sha256(self.url.encode() + b"\n" + payload).hexdigest()
        return Path(self.cache_dir) / digest[:2] / f"{digest}.json"


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it was imported, and then taken out
        return False


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
