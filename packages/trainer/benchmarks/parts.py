"""Where a step of `whole.py` goes, and what limits each part: ``python parts.py [--images 4] [--lengths 32 256 1024]``.

    bound        the part's operations over the rate of large products (`whole.gemm_rate`)
    alone        every call once more in a loop of its own, with numbers of the same shapes and strides: the least time
                 of five, as often as the step calls it; for products of sampled tokens, the time of reading the weights
    in the step  CPU seconds of one thread within the calls
    new memory   what the system handed out and zeroed within the calls

So "alone" is what the kernels allow at these shapes. The last line is what is in no call of torch or of our kernels:
Python and the dispatch of calls. The step itself is timed without the measurement, which would make it longer.
"""

import argparse
import math
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import whole
from subject import config, prepare_prompt, triptych_trainer, write_prompts
from table import timed_cycle
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.utils import logging as transformers_logging
from triptych_data import ImageLoader
from triptych_kernels import _native

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "addmm_")
ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
KERNELS = {
    "packed_product": "products of sampled tokens",
    "decode_attention": "attention of sampled tokens",
    "draw": "draw and norms of sampled tokens",
    "row_norm": "draw and norms of sampled tokens",
}
REST = "elementwise operations, sums, copies"
PARTS = ("products", "attention", *dict.fromkeys(KERNELS.values()), REST)
ROUNDS = 5


@dataclass(slots=True)
class Call:
    """The calls of one operation with tensors of the same shapes."""

    part: str
    name: str
    flops: int = 0
    build: Callable[[], Callable[[], object]] | None = None
    """Makes what is called once more."""
    number: int = 0
    seconds: float = 0.0
    faults: int = 0

    def add(self, began: tuple[float, int]) -> None:
        """Count a call that began then and ends now."""
        seconds, faults = now()
        self.number += 1
        self.seconds += seconds - began[0]
        self.faults += faults - began[1]


def now() -> tuple[float, int]:
    """CPU seconds and page faults of this thread."""
    return time.thread_time(), resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table for each length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 256, 1024])
    parser.add_argument(
        "--calls", type=int, default=0, metavar="N", help="print the N operations that take longest, too"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for length in options.lengths:
        with tempfile.TemporaryDirectory() as folder:
            print_parts(Path(folder), images=options.images, length=length, num_calls=options.calls)


def print_parts(folder: Path, *, images: int, length: int, num_calls: int = 0, side_pixels: int = 448) -> None:
    """Time a step, measure the calls of the same step made anew, and print both."""
    data = write_prompts(folder, num_images=images, side_pixels=side_pixels, num_prompts=2)
    prompt_tokens = len(prepare_prompt(data).ids)
    before, step = whole.gemm_rate(), whole.our_seconds(data, folder, length=length)
    rate = (before + whole.gemm_rate()) / 2
    calls = measured(data, folder, length=length)
    least = whole.least_flops(prompt_tokens, images=images, length=length)
    print(
        f"\nP = {prompt_tokens}, C = {length}: a step takes {step:.2f} s, {step * rate / least:.2f} of its bound of ",
        end="",
    )
    print(f"{least / rate:.2f} s ({least / 1e9:.0f} GFLOP at {rate / 1e9:.0f} GFLOP/s)\n")
    print("| part | calls | bound s | alone s | in the step s | of the step | new memory MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for part in PARTS:
        own = [call for call in calls if call.part == part]
        flops, took = sum(call.flops * call.number for call in own), sum(call.seconds for call in own)
        cells = [part, str(sum(call.number for call in own)), f"{flops / rate:.2f}" if flops else "", alone(own)]
        cells += [f"{took:.2f}", f"{took / step:.0%}", f"{sum(call.faults for call in own) * 4096 / 1e6:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    left = step - sum(call.seconds for call in calls)
    print(f"| Python and the dispatch of calls | | | | {left:.2f} | {left / step:.0%} | |", flush=True)
    for call in sorted(calls, key=lambda call: -call.seconds)[:num_calls]:
        print(f"{call.seconds:7.3f} s {call.number:6d} x {call.name}", flush=True)


def measured(data: Path, folder: Path, *, length: int) -> list[Call]:
    """The calls of one step, those of the same shapes together."""
    args = config(folder, group=whole.GROUP, completion_tokens=length, gradient_checkpointing=False)
    watch = Watch()
    with ImageLoader(threads=1) as loader:
        trainer = triptych_trainer(data, args, size=whole.WHOLE, loader=loader)
        trainer._to_verify = trainer.engine.verify = trainer.engine.prompts.verify = False
        train = trainer._inner_training_loop

        def watched(*given: Any, **named: Any) -> Any:
            with watch, kernels_watched(watch.calls):
                return train(*given, **named)

        trainer._inner_training_loop = watched
        timed_cycle(trainer, calls={}, name="triptych", warm_up=0)
    return list(watch.calls.values())


class Watch(TorchDispatchMode):
    """Adds up the calls of torch's operations, by operation and shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[Any, Call] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        began = now()
        result = func(*args, **kwargs)
        key = func, tuple((*x.shape, *x.stride()) if isinstance(x, torch.Tensor) else None for x in args)
        if key not in self.calls:
            self.calls[key] = call_of(func, args, kwargs, result)
        self.calls[key].add(began)
        return result


def call_of(func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Call:
    """What is known of an operation of torch from its first call."""
    name = func.__name__.split(".")[0]
    tensors = [x for x in args if isinstance(x, torch.Tensor)]
    shown = f"{func.__name__} {' '.join(str(list(x.shape)) for x in tensors[:3])}"
    if name in PRODUCTS:
        return Call("products", shown, 2 * result.numel() * tensors[-1].shape[-2], again(func, args, kwargs))
    if name.startswith(ATTENTION):
        first, is_causal = (1, args[7]) if name.endswith("backward") else (0, len(args) > 4 and args[4])
        query, key = args[first : first + 2]
        scores = math.prod(query.shape[:3]) * key.shape[2] * query.shape[3] // (2 if is_causal else 1)
        return Call("attention", shown, (4 + 6 * first) * scores, again(func, args, kwargs))
    return Call(REST, shown)


def again(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Callable[[], Callable[[], object]]:
    """Makes the same call on other numbers, whose memory is taken when it is made."""

    def outline(x: Any) -> Callable[[], Any]:
        if not isinstance(x, torch.Tensor):
            return lambda: x
        shape, strides, dtype = x.shape, x.stride(), x.dtype
        return lambda: torch.empty_strided(shape, strides, dtype=dtype).fill_(0.01)

    outlines, named = [outline(x) for x in args], {name: outline(x) for name, x in kwargs.items()}

    def build() -> Callable[[], object]:
        given, options = [make() for make in outlines], {name: make() for name, make in named.items()}
        return lambda: func(*given, **options)

    return build


def alone(calls: Sequence[Call]) -> str:
    """Seconds of the calls in a loop of their own; nothing where this is not known."""
    found = 0.0
    for call in calls:
        if call.build is None:
            return ""
        run, times = call.build(), []
        for _ in range(ROUNDS):
            began = time.thread_time()
            run()
            times.append(time.thread_time() - began)
        found += call.number * min(times)
    return f"{found:.2f}"


@contextmanager
def kernels_watched(calls: dict[Any, Call]) -> Iterator[None]:
    """Add up the calls of our kernels of sampled tokens."""
    stock = {name: getattr(_native.cpu, name) for name in KERNELS}

    def watched(name: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = now()
            result = stock[name](*args)
            sizes = args[4:7] if name == "packed_product" else ()  # rows, inputs, outputs
            if (name, sizes) not in calls:
                calls[name, sizes] = Call(KERNELS[name], f"{name} {list(sizes)}")
                if sizes:
                    calls[name, sizes].flops = 2 * math.prod(sizes)
                    calls[name, sizes].build = reading(math.prod(sizes[1:]))
            calls[name, sizes].add(began)
            return result

        return call

    for name in KERNELS:
        setattr(_native.cpu, name, watched(name))
    try:
        yield
    finally:
        for name, kernel in stock.items():
            setattr(_native.cpu, name, kernel)


def reading(num_weights: int) -> Callable[[], Callable[[], object]]:
    """Makes a sum over so many numbers that are not in the processor's cache."""

    def build() -> Callable[[], object]:
        parts = iter(torch.ones(ROUNDS * num_weights).split(num_weights))
        torch.ones(1 << 26)  # takes the cache
        return lambda: next(parts).sum()

    return build


if __name__ == "__main__":
    main()
