"""How much memory a run can take: what was stated, or what is free on its device."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from trl import GRPOConfig

__all__ = ["free_memory", "left_by_vllm", "room_of"]

_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def room_of(args: GRPOConfig, *, stated_gib: float | None, on_accelerator: bool, resident_bytes: int) -> int | None:
    """Return the bytes that one rank can take in all, weights included, or None if the system does not say.

    ``stated_gib``, the memory of the device, wins over what is found. On a CPU the ranks of a machine share what is
    free, and what the weights take already (``resident_bytes``) belongs to the run. On a GPU vLLM's share is left out
    where it samples there.
    """
    if stated_gib is not None:
        stated = int(stated_gib * 2**30)
        return left_by_vllm(args, stated) if on_accelerator else stated
    if not on_accelerator:
        free = free_memory()
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return None if free is None else free // ranks + resident_bytes
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved() - (total - left_by_vllm(args, total))


def left_by_vllm(args: GRPOConfig, total_bytes: int) -> int:
    """Return what vLLM leaves of a GPU's memory to a run: all of it, unless it samples in the same process."""
    shares = args.use_vllm and args.vllm_mode == "colocate"
    return int(total_bytes * (1 - args.vllm_gpu_memory_utilization)) if shares else total_bytes


def free_memory(*, meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Return the bytes that new processes can take without swapping, within the limit of a container, or None if that
    is not known.
    """
    if not meminfo.is_file():
        return None
    lines = (line.split() for line in meminfo.read_text().splitlines())
    free = next((int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:"), None)
    limit = _number(cgroup / "memory.max")
    if free is None or limit is None:
        return free
    stat = dict(line.split() for line in _text(cgroup / "memory.stat").splitlines())
    used = (_number(cgroup / "memory.current") or 0) - int(stat.get("inactive_file", 0))  # that cache is given back
    return min(free, max(limit - used, 0))


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
