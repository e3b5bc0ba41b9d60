"""A connection of the library `openai` whose attempts and replies are bounded; imported where a judge is asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai

from triptych_trainer.rewards.judge_error import JudgeError

__all__ = ["connection"]

ERROR_BYTES = 300
"""How much is read of the reply to a request that a server refuses."""
MAY_PASS = (408, 409, 429)
"""Statuses below 500 after which `openai` asks again."""


class _TooLongError(Exception):
    """A reply is longer than any chat model's."""


@asynccontextmanager
async def connection(
    *, url: str, name: str, key: str | None, key_name: str, retries: int, attempt_seconds: float, most_bytes: int
) -> AsyncIterator[Callable[[dict[str, Any]], Awaitable[str]]]:
    """Yield a function that sends one request of `chat.completions` and returns the text of the reply.

    ``name`` says in errors who is asked, and ``key_name`` is the environment's variable with the key. The function
    raises JudgeError: the request was refused, no attempt brought a reply, or the reply is of another kind.
    """
    async with openai.AsyncOpenAI(
        api_key=key or "none",  # openai sends nothing without a key, and servers on this machine want none
        base_url=url,
        max_retries=retries,
        timeout=attempt_seconds,
        http_client=_Bounded(attempt_seconds=attempt_seconds, most_bytes=most_bytes),
    ) as client:

        async def ask(request: dict[str, Any]) -> str:
            try:
                reply = await client.chat.completions.with_raw_response.create(**request)
            except _TooLongError as error:
                raise JudgeError(
                    f"{name} sent more than {most_bytes // 2**20} MiB, of which no more was read; is this an "
                    "OpenAI-compatible chat endpoint?"
                ) from error
            except openai.APIStatusError as error:
                problem = f"status {error.status_code}: {error.response.text}"
                if error.status_code < 500 and error.status_code not in MAY_PASS:
                    raise JudgeError(
                        f"{name} refused the request, {problem}; check the address, the model's name and the key in "
                        f"${key_name}"
                    ) from error
                raise _no_reply(name, problem, retries=retries, attempt_seconds=attempt_seconds) from error
            except openai.APIConnectionError as error:
                problem = f"{type(error.__cause__).__name__}: {error.__cause__}"
                raise _no_reply(name, problem, retries=retries, attempt_seconds=attempt_seconds) from error
            return _content(reply.http_response.text, name)

        yield ask


def _no_reply(name: str, problem: str, *, retries: int, attempt_seconds: float) -> JudgeError:
    return JudgeError(
        f"{name} gave no reply in {retries + 1} attempts of {attempt_seconds:g} s, last {problem}; is the server up, "
        "and is timeout_seconds long enough?"
    )


def _content(text: str, name: str) -> str:
    try:
        content = json.loads(text)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise JudgeError(
            f"{name} sent no choices[0].message.content: {text[:200]!r}; is this an OpenAI-compatible chat endpoint?"
        ) from error
    return content if isinstance(content, str) else ""


class _Bounded(openai.DefaultAsyncHttpxClient):
    """Gives every attempt one time limit as a whole (the library's is one for each read), and replies a length."""

    def __init__(self, *, attempt_seconds: float, most_bytes: int) -> None:
        super().__init__(event_hooks={"response": [self._bound]})
        self._attempt_seconds, self._most_bytes = attempt_seconds, most_bytes

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            async with asyncio.timeout(self._attempt_seconds):
                return await super().send(request, **options)
        except TimeoutError as error:
            raise httpx2.ReadTimeout(f"no whole reply within {self._attempt_seconds:g} s", request=request) from error

    async def _bound(self, response: httpx2.Response) -> None:
        refused = response.status_code >= 400
        response.stream = _BoundedStream(response.stream, ERROR_BYTES if refused else self._most_bytes, cuts=refused)


class _BoundedStream(httpx2.AsyncByteStream):
    """A body of at most so many bytes; what is longer is cut there, or refused."""

    def __init__(self, stream: Any, most_bytes: int, *, cuts: bool) -> None:
        self._stream, self._most_bytes, self._cuts = stream, most_bytes, cuts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._most_bytes
        async for piece in self._stream:
            if len(piece) > left and not self._cuts:
                raise _TooLongError
            yield piece[:left]
            left -= len(piece)
            if left <= 0 and self._cuts:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()
