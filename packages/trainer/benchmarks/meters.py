"""Process CPU time, calls per image, memory kept for the backward pass, and the peak of resident memory."""

import ctypes
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


def cpu_seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of this process: with one thread, what the call takes on a machine that does nothing else."""
    gc.collect()
    start = time.process_time()
    call()
    return time.process_time() - start


def alternate(calls: dict[str, Callable[[], float]], *, rounds: int) -> dict[str, float]:
    """Call each meter in turn, ``rounds`` times around, and return the smallest number of each."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(call())
    return {name: min(values) for name, values in seconds.items()}


@dataclass(kw_only=True, slots=True)
class ImageCalls:
    """Images that went through the image processor and through the vision tower."""

    preprocessed: int = 0
    encoded: int = 0


@contextmanager
def count_image_calls(processor: Any, models: list[torch.nn.Module]) -> Iterator[ImageCalls]:
    """Count images through ``processor.image_processor`` and through the towers of ``models``."""
    calls = ImageCalls()
    stock = type(processor.image_processor)

    def call(self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        calls.preprocessed += sum(len(row) if isinstance(row, (list, tuple)) else 1 for row in images if row)
        return stock.__call__(self, images, *args, **kwargs)

    def encode(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        calls.encoded += len(kwargs["grid_thw"])

    processor.image_processor.__class__ = type(stock.__name__, (stock,), {"__call__": call})
    hooks = [model.model.visual.register_forward_pre_hook(encode, with_kwargs=True) for model in models]
    try:
        yield calls
    finally:
        processor.image_processor.__class__ = stock
        for hook in hooks:
            hook.remove()


def saved_bytes(model: torch.nn.Module, forward: Callable[[], torch.Tensor]) -> int:
    """Bytes of all storages that autograd keeps for the backward pass of ``forward``, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(values: torch.Tensor) -> torch.Tensor:
        storage = values.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return values

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda values: values):
        output = forward()
    assert output.requires_grad
    return sum(kept.values())


class PeakMemory:
    """Highest resident memory since it was made, beyond what was resident then (Linux)."""

    def __init__(self) -> None:
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # or the next rise would fit into what was freed and not returned
        Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark to what is resident now
        self.before = self._read("VmRSS")

    def bytes(self) -> int:
        """The rise so far."""
        return self._read("VmHWM") - self.before

    @staticmethod
    def _read(name: str) -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"/proc/self/status has no {name}")
