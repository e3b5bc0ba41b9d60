"""Print one table of merge ratios per group, every row measured round-robin in this process.

pytest-benchmark times one row after another, so a change in the machine's load falls on one of them. Here each round
calls every row once, in a new random order, and the medians are compared. A ratio is the other's time over ours: above
1 we are faster. `copy` is the time of a plain copy of the result over ours: 1.00 is the physical limit.

CPU: process time of one thread; with `--threads 2` the clock. CUDA: events, with the second-level cache overwritten
before every call.
"""

import argparse
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import torch
from merge_cases import Batch, Case, make_batch
from merge_checks import check_result
from merge_competitors import GROUPS, Row, moved_bytes

KEPT_HEAP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}
TINY = Case(tokens=4, hidden=64, share=0.5)
FLUSHED_BYTES = 256 * 1024 * 1024
Timer = Callable[[Row, Batch], float]


def cases(sizes: list[str], device: str) -> list[Case]:
    """Every size at share .8 for G 1 and 8; shares, dtypes and a scattered layout at 4096 positions."""
    chosen = []
    for size in sizes:
        tokens, hidden = (int(number) for number in size.split("x"))
        plain = {"tokens": tokens, "hidden": hidden, "device": device}
        chosen += [Case(**plain), Case(**plain, group=8)]
        if tokens == 4096:
            chosen += [Case(**plain, share=0.2), Case(**plain, share=0.95), Case(**plain, scattered=True)]
            chosen += [Case(**plain, dtype=torch.float32), Case(**plain, dtype=torch.float16)]
    return chosen


def cpu_timer(row: Row, batch: Batch) -> float:
    start = time.process_time_ns()
    result = row(batch)
    elapsed = time.process_time_ns() - start
    del result
    return elapsed / 1e9


def clock_timer(row: Row, batch: Batch) -> float:
    """Time by the clock: process time adds up what several threads do."""
    start = time.perf_counter_ns()
    result = row(batch)
    elapsed = time.perf_counter_ns() - start
    del result
    return elapsed / 1e9


def make_cuda_timer() -> Timer:
    flushed = torch.empty(FLUSHED_BYTES, dtype=torch.uint8, device="cuda")

    def timer(row: Row, batch: Batch) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        flushed.zero_()
        start.record()
        row(batch)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    return timer


def measure(
    rows: dict[str, Row], batch: Batch, rounds: int, timer: Timer, *, rest: float = 0.0
) -> dict[str, list[float]]:
    """Seconds of every round by row, after one call each to warm up, with `rest` seconds before a round."""
    order = list(rows)
    shuffle = random.Random(0).shuffle
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for name in order:
        timer(rows[name], batch)
    for _ in range(rounds):
        shuffle(order)
        time.sleep(rest)
        for name in order:
            seconds[name].append(timer(rows[name], batch))
    return seconds


def rows_for(group: str, case: Case, *, compiled: bool) -> dict[str, Row]:
    """The rows that can be had and make sense; a compiled row costs seconds per shape, so odd cases go without."""
    plain = case.share == 0.8 and case.dtype == torch.bfloat16 and not case.scattered
    left_out = [] if compiled and plain else ["compiled"]
    if find_spec("transformers") is None:
        left_out.append("transformers")
    rows = {name: row for name, row in GROUPS[group].items() if not name.startswith(tuple(left_out))}
    if case.device == "cuda" and group == "forward":
        from merge_triton import triton_row

        rows["triton"] = triton_row
    return rows


def check(group: str, rows: dict[str, Row], batch: Batch) -> None:
    for name, row in rows.items():
        check_result(group, name, row(batch), batch)


def line(group: str, batch: Batch, seconds: dict[str, list[float]], columns: list[str]) -> str:
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ours = median["triptych"]
    low, _, high = statistics.quantiles(seconds["triptych"], n=4)
    rate = moved_bytes(group, batch) / ours / 1e9
    cells = [str(batch.case), f"{ours * 1e3:.3g}", f"{100 * (high - low) / ours:.0f} %"]
    cells.append(f"{rate:.1f}" if rate else "")
    cells += [f"{median[name] / ours:.2f}" if name in median else "" for name in columns]
    return "| " + " | ".join(cells) + " |"


def result(group: str, batch: Batch, seconds: dict[str, list[float]], columns: list[str]) -> str:
    """The last case of a group in words, for the table of `scripts/gpu_check.sh`."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ours = median["triptych"]
    others = ", ".join(f"{name} {median[name] / ours:.2f}" for name in columns if name in median)
    return f"RESULT {group}, {batch.case}: {ours * 1e3:.3g} ms; time of others divided by it: {others}"


def header(group: str, columns: list[str]) -> str:
    names = ["case", "triptych ms", "spread", "GB/s", *(name.replace("copy_limit", "copy") for name in columns)]
    return f"\n### {group}\n| " + " | ".join(names) + " |\n|" + " --- |" * len(names)


def print_tables(options: argparse.Namespace, timer: Timer) -> None:
    chosen = cases(options.sizes, options.device)
    for group in options.groups:
        columns = [name for name in [*GROUPS[group], "triton"] if name != "triptych"]
        if options.device == "cpu" or group != "forward":
            columns.remove("triton")
        print(header(group, columns), flush=True)
        for case in chosen:
            torch._dynamo.reset()
            batch = make_batch(case)
            rows = rows_for(group, case, compiled=not options.no_compile)
            check(group, rows, batch)
            seconds = measure(rows, batch, options.rounds, timer, rest=options.rest)
            print(line(group, batch, seconds, columns), flush=True)
        if options.results:
            print(result(group, batch, seconds, columns), flush=True)
    if find_spec("transformers") is None:
        print("\ntransformers is not installed: its masked_scatter rows are left out")
    print_tiny_calls(options)


def print_tiny_calls(options: argparse.Namespace) -> None:
    """Microseconds of process time per call where there is nothing to move."""
    print("\n### tiny-call (4 tokens of 64, microseconds of one thread)", flush=True)
    batch, repeat = make_batch(TINY), 200
    for group in ("forward", "forward+backward"):
        rows = rows_for(group, TINY, compiled=False)
        rows.pop("copy_limit", None)

        def repeated(row: Row, batch: Batch) -> float:
            start = time.process_time_ns()
            for _ in range(repeat):
                row(batch)
            return (time.process_time_ns() - start) / 1e3 / repeat

        medians = {name: statistics.median(values) for name, values in measure(rows, batch, 15, repeated).items()}
        print(f"- {group}: " + ", ".join(f"{name} {value:.1f}" for name, value in medians.items()), flush=True)


def machine(device: str) -> str:
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    processor = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    return f"{processor}, {threads} thread(s), torch {torch.__version__}"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS), metavar="GROUP")
    parser.add_argument("--sizes", nargs="+", default=["512x2048", "4096x2048", "16384x2048"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="with more than one, time is that of the clock")
    parser.add_argument("--no-compile", action="store_true", help="leave the torch.compile rows out")
    parser.add_argument(
        "--keep-heap", action="store_true", help="keep freed memory in the process, so that no page faults are timed"
    )
    parser.add_argument(
        "--rest",
        type=float,
        default=0.0,
        help="seconds before a round, in which the host of a virtual machine may take free memory back",
    )
    parser.add_argument("--results", action="store_true", help="print the last case of each group in one line, too")
    options = parser.parse_args(arguments)
    if options.rounds < 2:
        parser.error(f"--rounds expects 2 or more, for the spread between rounds; got {options.rounds}")
    return options


def main() -> None:
    options = parse(sys.argv[1:])
    if options.keep_heap and "MALLOC_MMAP_MAX_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEPT_HEAP)
    torch.set_num_threads(options.threads)
    print(f"{machine(options.device)}{', heap kept' if options.keep_heap else ''}", flush=True)
    timer = cpu_timer if options.threads == 1 else clock_timer
    print_tables(options, timer if options.device == "cpu" else make_cuda_timer())


if __name__ == "__main__":
    main()
