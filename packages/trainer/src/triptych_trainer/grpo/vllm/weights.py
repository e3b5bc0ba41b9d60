"""Hand the trained weights to vLLM, and drop what vLLM computed with the old ones.

vLLM keeps the vision tower's outputs of recent images by their content hash, across requests and across changes of the
weights. TRL empties the prefix cache only, so that an image that is seen again would be sampled from with the features
of an older tower (huggingface/trl#7198).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.vllm.failures import engine_failures
from triptych_trainer.grpo.vllm.folder_transfer import FolderLoad, uses_folder, write_weights
from triptych_trainer.grpo.vllm.merged_adapters import merged_in_copies
from triptych_trainer.grpo.vllm.server import server_of
from triptych_trainer.grpo.vllm.weight_names import under_names_of_vllm
from triptych_trainer.models.unwrap import unwrap

__all__ = ["engine_sleeps", "send_weights"]


def engine_sleeps(backend: Any) -> bool:
    """Return whether a colocated engine has put its weights away since they were last sent."""
    return backend.mode == "colocate" and backend.enable_sleep_mode and backend._llm_weights_sleeping


def send_weights(backend: Any, *, tower_moved: bool) -> None:
    """Send the trainer's weights to vLLM, and empty every cache of it that contains something of the old ones.

    A server that takes them from a folder loads them before it samples next, after everything that it was asked for
    before. Every other transfer waits until the server has nothing to do.

    Args:
        backend: TRL's ``VLLMGeneration``.
        tower_moved: whether the tower that vLLM computed features with can be another one than that of the trainer;
            with a frozen tower the features stay valid and are kept.

    Raises:
        UsageError: the server cannot empty its cache of image features, or takes no weights.
    """
    is_main = backend.mode == "server" and backend.accelerator.is_main_process
    if backend.mode == "server" and uses_folder(backend):
        with _as_vllm_takes_them(backend):
            needed = sum(weight.nbytes for weight in unwrap(backend.model).parameters())
            folder = write_weights(backend._iter_named_params(), write=is_main, needed=needed)
        if folder is not None:
            server = server_of(backend)
            load = FolderLoad(client=server.client, folder=folder, forgets=tower_moved)
            server.load = load.after(server.load)
        return
    if is_main:
        server_of(backend).line.wait()
    with _as_vllm_takes_them(backend), engine_failures(f"vLLM ({backend.mode})", doing="took the weights"):
        backend.sync_weights()
    if tower_moved:
        _forget_features(backend)


@contextmanager
def _as_vllm_takes_them(backend: Any) -> Iterator[None]:
    """While weights are sent: let TRL's ``VLLMGeneration`` give them with adapters in copies, and by vLLM's names."""
    stock, model = backend._iter_named_params, backend.model
    backend._iter_named_params = lambda: under_names_of_vllm(merged_in_copies(stock, model), unwrap(model))
    try:
        yield
    finally:
        del backend._iter_named_params


def _forget_features(backend: Any) -> None:
    """Empty the encoder cache by the engine, which empties the scheduler's half and the worker's half.

    A worker that forgets alone lets the engine believe that the features are still there, and the engine dies.
    """
    if backend.mode == "colocate":
        backend.llm.llm_engine.reset_encoder_cache()
    elif backend.accelerator.is_main_process:
        client, seconds = backend.vllm_client, server_of(backend).client.seconds
        with engine_failures(f"the vLLM server at {client.base_url}", doing="emptied its caches"):
            answer = client.session.post(f"{client.base_url}/reset_encoder_cache", timeout=seconds)
        if answer.status_code != 200:
            raise UsageError(
                f"the vLLM server at {client.base_url} answered {answer.status_code} to /reset_encoder_cache, so it "
                "would sample from the image features of older weights; start it with `triptych serve`, or "
                "train with --freeze_vision_modules"
            )
