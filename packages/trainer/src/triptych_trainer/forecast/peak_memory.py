"""Measured memory: the allocator's peak on an accelerator, resident memory on a CPU (Linux)."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import torch

__all__ = ["PeakMemory"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures the highest use of memory since it was made or last reset."""

    def __init__(self, device: torch.device) -> None:
        self.on_accelerator = device.type != "cpu"
        self.before = 0
        self.reset()

    def reset(self) -> None:
        """Forget the peak so far."""
        if self.on_accelerator:
            torch.accelerator.reset_peak_memory_stats()
            self.before = torch.accelerator.memory_allocated()
            return
        gc.collect()
        if _STATUS.exists():
            ctypes.CDLL(None).malloc_trim(0)  # or the next rise would fit into what was freed and not returned
            _CLEAR.write_text("5")  # the high-water mark becomes what is resident now
            self.before = _kilobytes("VmRSS") * 1024

    def peak(self) -> int | None:
        """Return the bytes in all on an accelerator, or resident on a CPU, or None if the system does not say."""
        if self.on_accelerator:
            return int(torch.accelerator.max_memory_allocated())
        return _kilobytes("VmHWM") * 1024 if _STATUS.exists() else None

    def rise(self) -> int | None:
        """Return the peak beyond what was in use at the beginning."""
        peak = self.peak()
        return None if peak is None else max(0, peak - self.before)


def _kilobytes(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0
