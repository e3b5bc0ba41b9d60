"""Calls of a vLLM server. The pixels of an image are sent once; afterwards the server knows the image by its digest.

A request names each image by a digest of what is sent, under which vLLM keeps the processed image
(``--mm-processor-cache-gb``). Where it has dropped one, it says so, and the request is sent again with all pixels. A
server that keeps none (``--mm-processor-cache-gb 0``) gets the pixels with every request.
"""

import base64
import hashlib
import http.client
import io
import json
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock, Semaphore
from typing import Any
from urllib.parse import urlencode, urlsplit

from PIL import Image

from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.vllm.background import begin_work
from triptych_trainer.grpo.vllm.ban import MOST_LOGPS
from triptych_trainer.grpo.vllm.failures import EngineError
from triptych_trainer.grpo.vllm.request import Completions, Request, check_expanded, check_lengths, limit_of
from triptych_trainer.grpo.vllm.told import Asking, asking_for

__all__ = ["Answers", "RolloutClient", "image_identifier"]

AT_ONCE = 64
"""Requests under way at the same time."""
PROCESSED = "processed_logprobs"
"""The mode in which a server returns the log-probabilities that it draws from."""
NO_LIMIT = 512
"""How many likeliest tokens are asked for, without a `top_k`, from a server that returns any number."""
UNKNOWN_CALL = "triptych_weights"
"""Part of what a server says whose workers did not learn to load weights (`serving/worker.py`)."""
FORGOTTEN = ("Cache miss for", "Expected a cached item")
"""What the server says of an image that it does not keep any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Contains what a server sampled in one generation, and what it was sent for it."""

    completions: list[Completions]
    """Of each request."""
    payload_bytes: int
    images_sent: int
    """Images whose pixels were in a request."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """The answer to one request."""

    completions: Completions
    payload_bytes: int
    images_sent: int


class _RequestRefusedError(RuntimeError):
    """The server says that the request was wrong."""


class RolloutClient:
    """Talks to a vLLM server, and remembers the images that it has been sent so far."""

    def __init__(self, base_url: str, *, model: str, seconds: float) -> None:
        """Talk to the server at ``base_url``; all that a call asks for has to be there after ``seconds``."""
        self.base_url, self.model, self.seconds = base_url, model, seconds
        self._carried: dict[str, Future[bool]] = {}
        """By its digest, whether the request that carries an image has been answered; it keeps no answer alive."""
        self._room, self._reading = Semaphore(AT_ONCE), Lock()
        self._limits: Mapping[str, int] | None = None

    def generate(self, wanted: Sequence[Request], *, options: Mapping[str, Any], is_cut: bool = False) -> Answers:
        """Return the completions of every request; ``options`` are vLLM's sampling parameters.

        With ``is_cut`` each token comes with those that it was drawn from.

        Raises:
            RolloutMismatchError: the server expands a prompt differently.
            UsageError: a prompt is too long for it, or it does not return all tokens that one was drawn from.
        """
        until = time.monotonic() + self.seconds
        limits = self.limits()
        check_lengths(wanted, longest=limits["max_model_len"])
        asking = asking_for(
            options, mode="server", is_cut=is_cut, most=limits["max_logprobs"], has_mask=bool(limits["has_mask"])
        )
        options = {**options, **asking.options}
        under_way = [
            [
                self._begin(one, {**options, **limit_of(one), **of_part}, asking=asking, until=until)
                for of_part in _parts(one.num_completions, most=limits["max_num_seqs"], seed=options.get("seed"))
            ]
            for one in wanted
        ]
        answers = [[part.result() for part in parts] for parts in under_way]
        return Answers(
            completions=[[one for part in parts for one in part.completions] for parts in answers],
            payload_bytes=sum(part.payload_bytes for parts in answers for part in parts),
            images_sent=sum(part.images_sent for parts in answers for part in parts),
        )

    def limits(self) -> Mapping[str, int]:
        """Return how long a prompt with its completion may be, how many completions one request may ask for, whether
        the server keeps images, how many likeliest tokens it returns, and whether it returns sampling masks.

        Raises:
            UsageError: its log-probabilities are not those that it draws from.
        """
        if self._limits is None:
            info = self.get("/server_info", config_format="json")["vllm_config"]
            model = info["model_config"]
            if (mode := model.get("logprobs_mode", PROCESSED)) != PROCESSED:
                raise UsageError(
                    f"the vLLM server at {self.base_url} runs with --logprobs-mode {mode}, so that its "
                    "log-probabilities are not those that it draws from; start it with `triptych serve MODEL`, without "
                    "that option"
                )
            images, most = model.get("multimodal_config") or {}, int(model.get("max_logprobs", MOST_LOGPS))
            self._limits = {
                "max_model_len": int(model["max_model_len"]),
                "max_num_seqs": int(info["scheduler_config"]["max_num_seqs"]),
                "keeps_images": int(images.get("mm_processor_cache_gb", 1) > 0),
                "max_logprobs": most if most >= 0 else NO_LIMIT,
                "has_mask": int(bool(model.get("return_sampling_mask"))),
            }
        return self._limits

    def get(self, path: str, **params: str) -> Any:
        """Return the answer to a question.

        Raises:
            UsageError: the server is not one that `triptych serve` started.
            EngineError: it does not answer in time.
        """
        return self._call("GET", f"{path}?{urlencode(params)}" if params else path, None, left=self.seconds)

    def post(self, path: str, body: Any = None, *, until: float | None = None) -> Any:
        """Return the answer to a command; ``until`` is the time of ``time.monotonic`` at which it has to be there.

        Raises:
            UsageError: the server is not one that `triptych serve` started.
            EngineError: it does not answer in time.
        """
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        left = self.seconds if until is None else max(until - time.monotonic(), 0.001)
        return self._call("POST", path, data, left=left)

    def generated(self, request: bytes, *, until: float) -> bytes:
        """Return the answer to a request for completions as it came.

        Raises:
            UsageError: the server is not one that `triptych serve` started.
            EngineError: it does not answer in time.
        """
        return self._sent("POST", "/inference/v1/generate", request, left=max(until - time.monotonic(), 0.001))

    def _call(self, method: str, path: str, data: bytes | None, *, left: float) -> Any:
        content = self._sent(method, path, data, left=left)
        return json.loads(content) if content else None

    def _sent(self, method: str, path: str, data: bytes | None, *, left: float) -> bytes:
        place = urlsplit(self.base_url)
        kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        connection = kind(place.netloc, timeout=left)
        try:
            connection.request(method, place.path + path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()  # comes as a whole when everything is sampled
            status, content = answer.status, answer.read()
        except TimeoutError as error:
            raise EngineError(
                f"the vLLM server at {self.base_url} did not answer {path} within {self.seconds:g} seconds; raise "
                "--rollout_seconds, or see what the server is doing, and go on from the last checkpoint with "
                "--resume_from_checkpoint latest"
            ) from error
        finally:
            connection.close()
        if status == 200:
            return content
        said = _said(content)
        if status == 404 or UNKNOWN_CALL in said:
            raise UsageError(
                f"the vLLM server at {self.base_url} does not take {path} as a run needs it ({status}); start it with "
                "`triptych serve MODEL`"
            )
        kind_of_error = _RequestRefusedError if 400 <= status < 500 else RuntimeError
        raise kind_of_error(f"{path} was answered with {status}: {said}")

    def _begin(self, one: Request, options: Mapping[str, Any], *, asking: Asking, until: float) -> "Future[_Answer]":
        """Ask in the background; a request that names images which another one carries waits for that one."""
        names = [image_identifier(image) for image in one.images]
        kept = self._carried if self.limits()["keeps_images"] else {}
        others = {name: kept[name] for name in names if name in kept}
        mine = set(names) - others.keys()
        arrived: Future[bool] = Future()

        def ask() -> _Answer:
            is_there = False
            try:
                missing = {name for name, carrier in others.items() if not carrier.result()}
                with self._room:
                    text, size, carried = self._ask_twice(one, names, options, carrying=mine | missing, until=until)
                is_there = True
            finally:
                arrived.set_result(is_there)
            with self._reading:  # an answer is many times as large as what is read from it: one of them at a time
                answer = json.loads(text)
                check_expanded(one, answer.get("prompt_token_ids") or ())
                found = asking.read(answer["choices"], where=one.name)
            return _Answer(completions=found, payload_bytes=size, images_sent=carried)

        self._carried.update(dict.fromkeys(mine, arrived))
        return begin_work(ask)

    def _ask_twice(
        self, one: Request, names: Sequence[str], options: Mapping[str, Any], *, carrying: Collection[str], until: float
    ) -> tuple[bytes, int, int]:
        """Ask, and once more with all images where the server has dropped one, in whatever words it says so."""
        try:
            return self._ask(one, names, options, carrying=carrying, until=until)
        except RuntimeError as error:
            dropped = isinstance(error, _RequestRefusedError) or any(words in str(error) for words in FORGOTTEN)
            if isinstance(error, EngineError) or not dropped or set(names) <= set(carrying):
                raise
            return self._ask(one, names, options, carrying=set(names), until=until)

    def _ask(
        self, one: Request, names: Sequence[str], options: Mapping[str, Any], *, carrying: Collection[str], until: float
    ) -> tuple[bytes, int, int]:
        """Return the answer as it came, the size of the request, and the number of images in it."""
        parts = [
            {"type": "image_url", "uuid": name, "url": _data_url(image) if name in carrying else None}
            for name, image in zip(names, one.images, strict=True)
        ]
        body = {
            "model": self.model,
            "token_ids": one.short_ids,
            "content_parts": parts,
            "sampling_params": dict(options),
            "return_token_ids": True,
        }
        data = json.dumps(body).encode()
        return self.generated(data, until=until), len(data), len(carrying)


def image_identifier(image: Image.Image) -> str:
    """Return the digest under which the server keeps an image: of its pixels as they are sent."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return f"triptych-{digest.hexdigest()}"


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _parts(number: int, *, most: int, seed: int | None) -> list[dict[str, int]]:
    """What requests for at most ``most`` completions say of their number and, where one is given, of their seed.

    vLLM draws completion k of a request with ``seed + k``.

    >>> _parts(10, most=4, seed=3)
    [{'n': 4, 'seed': 3}, {'n': 4, 'seed': 7}, {'n': 2, 'seed': 11}]
    """
    return [
        {"n": min(most, number - start)} | ({} if seed is None else {"seed": seed + start})
        for start in range(0, number, most)
    ]


def _said(content: bytes) -> str:
    """The server's own words, in one line."""
    text = content.decode(errors="replace")
    try:
        return " ".join(str(json.loads(text)["error"]["message"]).split())
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:300]
