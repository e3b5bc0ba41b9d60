"""Rollouts by a vLLM server: all ranks' requests go through the main process, at once or while the trainer works."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from accelerate.utils import broadcast_object_list, gather_object
from triptych_parser import Refusal

from triptych_trainer.grpo.vllm.background import InOrder
from triptych_trainer.grpo.vllm.client import Answers, RolloutClient
from triptych_trainer.grpo.vllm.failures import engine_failures
from triptych_trainer.grpo.vllm.folder_transfer import FolderLoad
from triptych_trainer.grpo.vllm.request import Completions, Request, sampling_options

__all__ = [
    "SECONDS",
    "AskedGeneration",
    "RolloutServer",
    "answers_of",
    "ask_server",
    "from_server",
    "payload_of",
    "server_of",
]

SECONDS = 1800.0
"""How long one generation may take by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedGeneration:
    """Contains a generation that a server was asked for."""

    sizes: Sequence[int]
    """Requests of each rank."""
    answers: "Future[Answers] | None"
    """Of all ranks' requests; None on every rank but the main one."""


@dataclass(kw_only=True, slots=True)
class RolloutServer:
    """Orders the work of a run's server, which does one thing after the other: load weights, or sample a generation."""

    client: RolloutClient
    line: InOrder
    load: FolderLoad | None = None
    """Loads the weights that were written last and not loaded yet: before the next generation that is asked for."""
    loaded: FolderLoad | None = None
    """Loaded the weights that the server has."""

    def generate(
        self, load: FolderLoad | None, requests: Sequence[Request], *, options: Mapping[str, Any], is_cut: bool = False
    ) -> Answers:
        """Load weights if there are any, and sample with those that were sent last, and with no others.

        Raises:
            UsageError: the server has other weights than this run sent.
        """
        if load is not None:
            load(last=None if self.loaded is None else self.loaded.folder)
            self.loaded = load
        answers = self.client.generate(requests, options=options, is_cut=is_cut)
        if self.loaded is not None:
            self.loaded.check_kept()
        return answers


def server_of(backend: Any) -> RolloutServer:
    """Return the server that TRL's ``VLLMGeneration`` is connected to; it is kept with it, and only in the main
    process.
    """
    found = getattr(backend, "rollout_server", None)
    if found is None:
        client = backend.vllm_client
        seconds = getattr(backend, "rollout_seconds", SECONDS)
        found = RolloutServer(
            client=RolloutClient(client.base_url, model=client.model, seconds=seconds), line=InOrder()
        )
        backend.rollout_server = found
    return found


def ask_server(backend: Any, requests: Sequence[Request], *, options: Mapping[str, Any]) -> AskedGeneration:
    """Ask for the completions of all ranks' requests, after everything that was asked for before."""
    sizes = gather_object([len(requests)])
    everyone = gather_object(list(requests))
    if not backend.accelerator.is_main_process:
        return AskedGeneration(sizes=sizes, answers=None)
    server, is_cut = server_of(backend), getattr(backend, "scores_kept", False)
    load, server.load = server.load, None
    sampling = {**sampling_options(backend), **options}
    if backend.structured_outputs_regex is not None:
        sampling["structured_outputs"] = {"regex": backend.structured_outputs_regex}

    def work() -> Answers:
        with engine_failures(f"the vLLM server at {server.client.base_url}"):
            return server.generate(load, everyone, options=sampling, is_cut=is_cut)

    return AskedGeneration(sizes=sizes, answers=server.line.do(work))


def answers_of(backend: Any, asked: AskedGeneration) -> list[Completions]:
    """Wait for what was asked for; every rank gets the results of its own requests."""
    payload: list[Any] = [None]
    if asked.answers is not None:
        try:
            payload = [asked.answers.result()]
        except Refusal as error:  # every rank has to hear of it, or the others would wait for ever
            payload = [error]
    broadcast_object_list(payload, from_process=0)
    if isinstance(payload[0], Refusal):
        raise payload[0]
    answers: Answers = payload[0]
    backend.last_payload = {"payload_bytes": answers.payload_bytes, "images_sent": answers.images_sent}
    rank = backend.accelerator.process_index
    first = sum(asked.sizes[:rank])
    return answers.completions[first : first + asked.sizes[rank]]


def from_server(
    backend: Any, requests: Sequence[Request], *, options: Mapping[str, Any], profiler: AbstractContextManager[Any]
) -> list[Completions]:
    """Return the completions of this rank's requests, which are asked for now."""
    with profiler:
        return answers_of(backend, ask_server(backend, requests, options=options))


def payload_of(backend: Any) -> Mapping[str, int]:
    """Return what a server was sent for the generation that was waited for last; nothing in colocated mode."""
    found: Mapping[str, int] = getattr(backend, "last_payload", {})
    return found
