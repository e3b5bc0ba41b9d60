"""What a call allocates and computes, without computing it: the real code on tensors that have a shape and no content.

Floating-point tensors that depend on a weight are fake (shape, dtype, storage size); token ids, grids and masks are
real, because models read them to decide what to do next. Every storage that an operation makes is counted from its
birth to its death, so that the peak is the one of the allocator, if it returned freed memory at once.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from triptych_trainer.upstream.torch_names import FakeTensor, FakeTensorMode, TorchDispatchMode

aten = torch.ops.aten
_DEVICE = torch.ops.prim.device.default
_REAL_ELEMENTS = 1 << 26
"""Larger floating-point tensors are fake even where their content would be known."""
_FACTORIES = {aten.zeros, aten.ones, aten.full, aten.empty, aten.rand, aten.randn}


class Recorder(TorchDispatchMode):
    """Counts live bytes per section of a call, and floating-point operations; ``known`` storages are not counted."""

    def __init__(self, fake: FakeTensorMode, *, known: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.fake = fake
        self.live = 0
        self.flops = 0
        self.peaks: dict[str, int] = {}
        self.section = "start"
        self._storages: dict[int, Any] = {}
        self._known = [tensor.untyped_storage() for tensor in known]
        self._ignored = {id(storage) for storage in self._known}

    def enter(self, section: str) -> None:
        """Begin, or go on with, a section: its peak starts at what is live now."""
        self.section = section
        self.peaks[section] = max(self.peaks.get(section, 0), self.live)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation, for real or on shapes alone, and count what it made."""
        kwargs = kwargs or {}
        if func is _DEVICE and isinstance(args[0], FakeTensor):  # more than half of all calls
            return args[0].fake_device
        tensors = [*_tensors(args), *_tensors(kwargs.values())]
        if any(isinstance(tensor, FakeTensor) for tensor in tensors) or _is_large(func, tensors, args, kwargs):
            if func is aten.index.Tensor:
                args = (args[0], [_positions(index) for index in args[1]])
                args = (args[0], [part for parts in args[1] for part in parts])
            # To enter the mode, and call the function in it, would take as long again.
            result = self.fake.__torch_dispatch__(func, types, args, kwargs)
        else:
            result = func(*args, **kwargs)
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.flops += count(*args, **kwargs, out_val=result)
        for tensor in _tensors((result,)):
            self._see(tensor)
        return result

    def _see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._storages or key in self._ignored:
            return
        size = storage.nbytes()
        self.live += size
        if self.live > self.peaks.get(self.section, 0):
            self.peaks[self.section] = self.live

        def free(_: Any, key: int = key, size: int = size) -> None:
            del self._storages[key]
            self.live -= size

        self._storages[key] = weakref.ref(storage, free)


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Every tensor of an operation's arguments or results, which nest in lists and tuples only."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _positions(index: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    """A real mask as the positions it selects: how many there are has to be known."""
    if isinstance(index, torch.Tensor) and index.dtype == torch.bool and not isinstance(index, FakeTensor):
        return index.nonzero(as_tuple=True)
    return (index,)


def _is_large(func: Any, tensors: list[torch.Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if tensors:
        return sum(t.numel() for t in tensors if t.is_floating_point()) > _REAL_ELEMENTS
    if func.overloadpacket not in _FACTORIES or not args or not isinstance(args[0], (list, tuple)):
        return False
    dtype = kwargs.get("dtype") or torch.get_default_dtype()
    size = 1
    for side in args[0]:
        size *= side
    return bool(dtype.is_floating_point and size > 1 << 16)
