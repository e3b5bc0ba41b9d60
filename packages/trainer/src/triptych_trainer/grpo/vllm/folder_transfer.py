"""Weights by a folder: the trainer writes them, and the server's workers load them (``serving/worker.py``).

It needs no GPU on either side and no connection between trainer and workers, only a folder that both see: in memory,
where the machine has `/dev/shm`.
"""

import atexit
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.vllm.client import RolloutClient

__all__ = ["TRANSFERS", "FolderLoad", "folder_is_used", "uses_folder", "write_weights"]

TRANSFERS = ("auto", "nccl", "folder")
"""How a server gets the weights: by a folder where the trainer has no GPU, or always by one of the two."""
MEMORY = Path("/dev/shm")
PREFIX = "triptych-weights"
TO_EMPTY = 60.0
"""Seconds until a server has to have finished what it answered."""
FILE_BYTES = 2 << 30
"""How much of the weights is in one file, and in the host's memory in addition to it."""


def folder_is_used(transfer: str, *, device: torch.device) -> bool:
    """Return whether a run on ``device`` sends its weights by a folder."""
    return transfer == "folder" or (transfer == "auto" and device.type != "cuda")


def uses_folder(backend: Any) -> bool:
    """Return whether this connection was made without NCCL."""
    return bool(getattr(backend, "sends_by_folder", False))


def write_weights(named: Iterable[tuple[str, torch.Tensor]], *, write: bool = True, needed: int = 0) -> Path | None:
    """Write weights of about ``needed`` bytes into a new folder; without ``write`` only take part in gathering them.

    Raises:
        UsageError: there is no room for them.
    """
    if not write:
        for _ in named:
            pass
        return None
    home = _home(os.getpid(), _place(needed))
    folder = Path(tempfile.mkdtemp(dir=home))
    try:
        for number, part in enumerate(_parts(named)):
            save_file(part, folder / f"{number:05d}.safetensors")
    except Exception as error:  # safetensors has its own error for a full disk
        shutil.rmtree(folder, ignore_errors=True)
        raise UsageError(
            f"the weights for the vLLM server cannot be written to {home} ({' '.join(str(error).split())}), which has "
            f"{shutil.disk_usage(home).free / 2**20:.0f} MiB free; make room there (a container: --shm-size), or set "
            "TMPDIR to a folder with room that the server sees, or use --vllm_weight_transfer nccl on GPUs"
        ) from error
    return folder


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderLoad:
    """Makes a server load a folder and forget what it computed with older weights; the folder is then removed."""

    client: RolloutClient
    folder: Path
    forgets: bool
    """Whether the server drops the features of images that it keeps."""

    def __call__(self, *, last: Path | None) -> None:
        """Load, and wait for it; ``last`` is the folder that this run had loaded before.

        If another folder was loaded since, or the server was started again, it also drops what it computed with
        those weights.

        Raises:
            UsageError: the server does not see the folder.
            RuntimeError: the folder has no weight for a part of the served model.
        """
        try:
            answer = self.client.post(
                "/collective_rpc", {"method": "load_triptych_weights", "kwargs": {"folder": str(self.folder)}}
            )
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        if any(worker["unseen"] for worker in answer["results"]):
            raise UsageError(
                f"the vLLM server at {self.client.base_url} does not see {self.folder}, to which the weights were "
                "written; start it on the machine (and in the container) of the trainer, with the same /dev/shm, or "
                "use --vllm_weight_transfer nccl, which needs a GPU on both sides"
            )
        others = any(worker["before"] != [str(last)] for worker in answer["results"])
        missing = [name for worker in answer["results"] for name in worker["missing"]]
        if missing:
            raise RuntimeError(f"it found no weight for {len(missing)} of its parameters, as {missing[0]}")
        self._empty_prefix_cache()
        if self.forgets or others:
            self.client.post("/reset_encoder_cache")

    def check_kept(self) -> None:
        """Check that the server still has the weights of this load.

        Raises:
            UsageError: another run has loaded its own, or the server was started again.
        """
        answer = self.client.post("/collective_rpc", {"method": "triptych_weights"})
        if any(worker != [str(self.folder)] for worker in answer["results"]):
            raise UsageError(
                f"the vLLM server at {self.client.base_url} does not have the weights any more that this run sent: "
                "another run has loaded its own, or the server was started again; nothing was trained on this "
                "generation: give every run a server of its own, and go on from the last checkpoint with "
                "--resume_from_checkpoint latest"
            )

    def _empty_prefix_cache(self) -> None:
        """Repeated, because a server frees the last blocks of a request a moment after it has answered."""
        end = time.monotonic() + min(self.client.seconds, TO_EMPTY)
        while (self.client.post("/reset_prefix_cache") or {}).get("success") is False:
            if time.monotonic() > end:
                raise RuntimeError("its prefix cache is in use and cannot be emptied; nothing else may sample from it")
            time.sleep(0.05)

    def after(self, earlier: "FolderLoad | None") -> "FolderLoad":
        """Return a load that replaces one that never happened, and also drops what that load would have dropped."""
        if earlier is None:
            return self
        shutil.rmtree(earlier.folder, ignore_errors=True)
        return replace(self, forgets=self.forgets or earlier.forgets)


def _parts(named: Iterable[tuple[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
    part: dict[str, torch.Tensor] = {}
    for name, tensor in named:
        part[name] = tensor.detach().to("cpu", copy=True).contiguous()  # merged adapters are taken out again later
        if sum(one.nbytes for one in part.values()) >= FILE_BYTES:
            yield part
            part = {}
    if part:
        yield part


def _place(needed: int) -> Path:
    """In memory where there is room for the weights, and for those of one step more; a container has 64 MiB there."""
    has_room = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2 * needed
    return MEMORY if has_room else Path(tempfile.gettempdir())


@functools.cache
def _home(process: int, memory: Path) -> Path:
    """The folder of this process, which is removed when the process ends; those of runs that were killed go now."""
    for folder in memory.glob(f"{PREFIX}-*"):
        owner = folder.name.split("-")[2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and folder.stat().st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)
    home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-{process}-", dir=memory))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home
