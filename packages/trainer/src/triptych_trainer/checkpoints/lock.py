"""One run at a time in an output folder: a lock file with process id and host."""

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from triptych_trainer.checkpoints.folder import CheckpointError

__all__ = ["LOCK", "one_run_in", "output_lock"]

LOCK = "_run.lock"
"""transformers uploads no file whose name begins with ``_``."""


def one_run_in(args: TrainingArguments, *, say: Callable[[str], None] = print) -> AbstractContextManager[None]:
    """Reserve the output folder of a run; the first rank does this for all."""
    return output_lock(Path(args.output_dir), say=say) if args.process_index == 0 else nullcontext()


@contextmanager
def output_lock(output: Path, *, say: Callable[[str], None] = print) -> Iterator[None]:
    """Reserve the output folder for one run while the context lasts; the folder is made if it is missing.

    The lock of a process that no longer runs on this host is taken over, and ``say`` gets one sentence about it. A
    folder that this lock made, and in which nothing was written, is removed at the end.

    Raises:
        CheckpointError: another run uses the folder, or the folder cannot be written.
    """
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
        _claim(output / LOCK, say=say)
    except OSError as error:
        raise CheckpointError(
            f"--output_dir {output}: expected a folder that can be written, got {error.strerror or error}; "
            "name another folder or change its permissions"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            (output / LOCK).unlink()
            for folder in made:
                folder.rmdir()  # fails on the first one that is not empty


def _claim(path: Path, *, say: Callable[[str], None]) -> None:
    """Write this process into the lock file, unless a process that may still run is written there."""
    while True:
        with path.open("a+", encoding="utf-8") as file:
            _guard(file.fileno())
            if not _is_same_file(file.fileno(), path):  # its holder removed it between our opening and our guard
                continue
            file.seek(0)
            holder = _parsed(file.read())
            if holder is not None:
                _check_dead(holder, path)
                say(
                    f"the lock of process {holder.get('pid')}, which no longer runs, is taken over: "
                    f"it ended without removing {path}"
                )
            file.truncate(0)
            file.write(json.dumps(_this_process()) + "\n")
            file.flush()
            os.fsync(file.fileno())
            return


def _guard(descriptor: int) -> None:
    """Let one process at a time look into the file and change it; without the guard where the file system has none."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _parsed(text: str) -> Mapping[str, Any] | None:
    """The holder that is written in a lock; None for an empty file, which a kill between two writes leaves."""
    if not text.strip():
        return None
    with suppress(ValueError):
        holder = json.loads(text)
        if isinstance(holder, dict):
            return holder
    return {}


def _this_process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "process_started": _process_start(os.getpid()),
        "locked": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _check_dead(holder: Mapping[str, Any], path: Path) -> None:
    """Check that the process of a lock no longer runs.

    Raises:
        CheckpointError: it runs, or it belongs to another host, where this process cannot look.
    """
    pid, host = holder.get("pid"), holder.get("host")
    if not isinstance(pid, int):
        raise CheckpointError(f"{path} cannot be read as a lock; remove it if no run writes into {path.parent}")
    who = f"{path.parent} is in use by process {pid} on host {host} since {holder.get('locked')}"
    if host != socket.gethostname():
        raise CheckpointError(
            f"{who}, and this host ({socket.gethostname()}) cannot see whether it still runs; "
            f"name another --output_dir, or remove {path} if that run has ended"
        )
    if _runs(pid, started=holder.get("process_started")):
        raise CheckpointError(f"{who}; name another --output_dir, or wait until that run has ended")


def _runs(pid: int, *, started: str | None) -> bool:
    """Whether a process still runs on this host; another process with the same number started at another time."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, and belongs to another user
        pass
    now = _process_start(pid)
    return started is None or now is None or now == started


def _process_start(pid: int) -> str | None:
    """Boot of the machine, and start of a process in clock ticks since then; None where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # from the third field of proc(5) on: state, ..., starttime
    return f"{boot}:{'ended' if fields[0] in 'ZX' else fields[19]}"
