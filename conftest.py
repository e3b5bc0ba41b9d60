"""How every test runs: kept bytecode, hypothesis's draws, the workers, the CPU seconds, and what was skipped."""

import atexit
import functools
import gc
import importlib.metadata
import os
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from multiprocessing import forkserver
from pathlib import Path

import pytest

if sys.dont_write_bytecode:  # as many containers ask; then each worker would compile torch and transformers anew
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parent / ".cache" / "bytecode")  # beside no source, where Git ignores it
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix

from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers, and the processes that tests start, share the cores
os.environ.setdefault("TRIPTYCH_CACHE", "off")  # no test reads, or leaves, what a start remembers of its data
os.environ.setdefault(
    "HF_HUB_OFFLINE", "1"
)  # names of models that exist nowhere are not looked for on the hub, five times each
# accelerate reads the descriptions of DeepSpeed and PEFT 16 times for each trainer, a millisecond each time
importlib.metadata.metadata = functools.cache(importlib.metadata.metadata)
os.fsync = os.fstat  # refuses what is no file, and waits for no disk: no test cuts the power
MAX_WORKERS = 4
CPU_SECONDS = "cpu_seconds"
STARTED = pytest.StashKey[float]()

settings.register_profile(
    "ci",
    deadline=None,  # a busy machine is no failure
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=10)
FUZZ_EXAMPLES = int(os.environ.get("TRIPTYCH_FUZZ", 0))  # `make fuzz` sets it: so many new examples for each test
if FUZZ_EXAMPLES:
    settings.register_profile("fuzz", settings.get_profile("ci"), derandomize=False, max_examples=FUZZ_EXAMPLES)
settings.load_profile("fuzz" if FUZZ_EXAMPLES else "ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("triptych")
    group.addoption(
        "--cpu-durations", type=int, metavar="N", default=0, help="show the N tests and all folders by CPU seconds"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Draw fewer examples where only the quick tests are asked for."""
    if not FUZZ_EXAMPLES and "not slow" in config.getoption("markexpr"):
        settings.load_profile("quick")


def cases_named(item: pytest.Item) -> tuple[str, ...] | None:
    """The patterns of `slow_except` that say which cases of a test are quick ones; None where all or none are."""
    mark = item.get_closest_marker("slow_except")
    return mark and mark.args


def case_of(item: pytest.Item) -> str:
    return item.callspec.id if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark as slow all benchmarks, and the cases that `slow_except` does not name."""
    if "benchmarks" in item.path.parts:
        item.add_marker(pytest.mark.slow)
    named = cases_named(item)
    if named is not None and not any(fnmatchcase(case_of(item), pattern) for pattern in named):
        item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse a name in `slow_except` that no case has: the test would silently be a slow one."""
    cases: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for item in items if not any("::" in argument for argument in config.args) else ():
        if named := cases_named(item):
            cases.setdefault((item.nodeid.split("[")[0], named), []).append(case_of(item))
    for (test, named), found in cases.items():
        for pattern in named:
            if not any(fnmatchcase(case, pattern) for case in found):
                raise pytest.UsageError(f"{test}: slow_except names {pattern!r}, and the cases are {found[:20]}")
    items.sort(key=lambda item: not starts_processes(item))


def starts_processes(item: pytest.Item) -> bool:
    """Whether a test needs the fork server. These are the longest tests, and they come first.

    The first worker then takes all of them, so that one fork server is made, and none is left alone at the end.
    """
    return "fork" in getattr(item, "fixturenames", ())


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One worker per core for whole folders; none for single files, which are quicker alone, and for timings."""
    whole = all(Path(argument.split("::")[0]).is_dir() for argument in config.args)
    timed = config.getoption("benchmark_enable", False) or config.getoption("benchmark_only", False)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS) if whole and not timed else 0


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave what the imports made out of later garbage collections: every training run starts two, which visit all."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """After a module, leave out what stays for later ones as well: imports, models of the session."""
    yield
    if nextitem is not None and nextitem.path != item.path:
        gc.collect()
        gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Unfreeze after pytest's own five collections: extension modules say at the end what they find alive."""
    atexit.register(gc.unfreeze)


def cpu_seconds() -> float:
    """CPU seconds of this process, of the children that have ended, and of the fork server and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    total = sum(usage.ru_utime + usage.ru_stime for usage in used)
    server = forkserver._forkserver._forkserver_pid
    stat = Path(f"/proc/{server}/stat")
    if server is not None and stat.exists():
        ticks = stat.read_text().rpartition(")")[2].split()[11:15]
        total += sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return total


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note the time at the start; `pytest_runtest_makereport` takes the difference after the last phase."""
    item.stash[STARTED] = cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Hand the CPU seconds to the report, which travels from a worker to the process that prints."""
    if call.when == "teardown":
        item.user_properties.append((CPU_SECONDS, cpu_seconds() - item.stash[STARTED]))
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say above the last line why tests were skipped, and where the CPU seconds went if it was asked."""
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.getreports("skipped"))
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason}")
    if number := config.getoption("cpu_durations"):
        show_cpu_seconds(terminalreporter, number)


def show_cpu_seconds(terminalreporter: pytest.TerminalReporter, number: int) -> None:
    """Print the CPU seconds of every folder and of the costliest tests; a fixture counts for its first test."""
    reports = [report for group in ("passed", "failed", "skipped", "") for report in terminalreporter.getreports(group)]
    last = [report for report in reports if isinstance(report, pytest.TestReport) and report.when == "teardown"]
    tests = {report.nodeid: dict(report.user_properties)[CPU_SECONDS] for report in last}
    folders = dict.fromkeys((str(Path(name.split("::")[0]).parent) for name in tests), 0.0)
    for name, seconds in tests.items():
        folders[str(Path(name.split("::")[0]).parent)] += seconds
    terminalreporter.section(f"{sum(tests.values()):.0f} CPU seconds")
    costliest = sorted(tests.items(), key=lambda test: -test[1])[:number]
    for name, seconds in [*sorted(folders.items()), *costliest]:
        terminalreporter.write_line(f"{seconds:8.2f} s  {name}")
