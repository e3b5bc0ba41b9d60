"""How a run begins: as a new run or from a checkpoint, in an output folder that contains this run and no other."""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from triptych_trainer.checkpoints.folder import (
    CheckpointError,
    checkpoints,
    defect,
    latest_checkpoint,
    manifest_of,
    remove_unfinished,
    run_id_of,
    step_of,
)
from triptych_trainer.checkpoints.kind import check_is_checkpoint, check_name, lacking
from triptych_trainer.checkpoints.ranks import decided_by_first
from triptych_trainer.checkpoints.run import (
    Run,
    check_same_run,
    check_same_weights,
    new_run_id,
    options_of,
)
from triptych_trainer.checkpoints.weights import weights_digest
from triptych_trainer.errors import UsageError
from triptych_trainer.monitor.run_record import RECORD, read_run_record
from triptych_trainer.options.arguments import TrainingConfig
from triptych_trainer.options.run_folders import NEWEST, check_checkpoint_folder

__all__ = ["EARLIER", "Start", "asked_checkpoint", "begin_run", "choose_start"]

EARLIER = "_earlier-runs"
"""Below the output folder: the runs that were there before. transformers uploads no folder that begins with ``_``."""
WRITTEN_BY_RUNS = ("rollouts", "completions", "report.html", "config.yaml", "trainer_state.json", "result.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Describes a run that is about to begin."""

    run: Run
    output: Path
    checkpoint: Path | None = None
    """The checkpoint that it goes on from; None for a new run."""
    saved: Mapping[str, Any] | None = None
    """What that checkpoint says about the run that wrote it."""


def choose_start(
    config: TrainingConfig,
    *,
    data: str,
    held_out: str = "",
    sources: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
    warn: Callable[[str], None] = print,
) -> Start:
    """Find the checkpoint that ``--resume_from_checkpoint`` means and compare the run with the one that wrote it.

    ``data`` and ``held_out`` are the digests of the data (see ``data_digest``), ``sources`` those of the processor and
    of the user's own code. ``latest`` is the newest whole
    checkpoint of the run in the output folder. ``warn`` is told what differs from the run that wrote the checkpoint.
    Every rank has to call this; the first one decides. Nothing but what an interrupted save left is changed on disk.

    Raises:
        UsageError: no such checkpoint.
        CheckpointError: the named checkpoint is not whole, or was written with other data or another group size.
    """

    def decide() -> Start:
        output = Path(config.trl.output_dir)
        if str(config.trl.resume_from_checkpoint).lower() in NEWEST:
            remove_unfinished(output)
        checkpoint = asked_checkpoint(config, say=say)
        known = _recorded_id(output)
        if checkpoint is not None and checkpoint.parent == output:
            known = run_id_of(checkpoint) or known
        goes_on = checkpoint is not None and checkpoint.parent == output
        run = Run(
            id=known if goes_on and known is not None else new_run_id(),
            options=options_of(config),
            data=data,
            held_out=held_out,
            sources=sources or {},
        )
        if checkpoint is None:
            return Start(run=run, output=output)
        saved = _run_of(checkpoint)
        changed = [*lacking(checkpoint), *check_same_run(saved, run, checkpoint=checkpoint)]
        say(f"going on from {checkpoint}")
        for sentence in changed:
            warn(sentence)
        return Start(run=run, output=output, checkpoint=checkpoint, saved=saved)

    return decided_by_first(decide, rank=config.trl.process_index)


def begin_run(start: Start, *, model: torch.nn.Module, rank: int = 0, say: Callable[[str], None] = print) -> Start:
    """Compare the loaded model, and leave nothing in the output folder that another run wrote.

    The files of an earlier run are moved to ``_earlier-runs/<its id>``, which is a whole output folder of its own.
    Every rank has to call this; the first one moves.

    Raises:
        CheckpointError: the checkpoint's adapters or reference belong to other weights, or a file cannot be moved.
    """

    def decide() -> Start:
        run = replace(start.run, weights=weights_digest(model))
        if start.checkpoint is not None:
            has_adapters = bool(run.options.get("use_peft")) or hasattr(model, "peft_config")
            for sentence in check_same_weights(
                start.saved, run, checkpoint=start.checkpoint, has_adapters=has_adapters
            ):
                say(sentence)
        try:
            _set_earlier_aside(start, say=say)
            if start.checkpoint is not None and start.checkpoint.parent == start.output:
                _forget_later(start.checkpoint, start.output, say=say)
        except OSError as error:
            raise CheckpointError(
                f"{start.output} contains another run, whose files cannot be moved to {start.output / EARLIER}: "
                f"{error}; name another --output_dir"
            ) from error
        return replace(start, run=run)

    return decided_by_first(decide, rank=rank)


def asked_checkpoint(config: TrainingConfig, *, say: Callable[[str], None]) -> Path | None:
    """Return the checkpoint that ``--resume_from_checkpoint`` means, None without the option; nothing is changed.

    Raises:
        UsageError: no such checkpoint.
        CheckpointError: the named checkpoint is not whole, or another tool's that cannot be gone on from.
    """
    output, asked = Path(config.trl.output_dir), config.trl.resume_from_checkpoint
    if asked is not None:
        check_checkpoint_folder(asked)
    if not asked or str(asked).lower() == "false":
        return None
    if str(asked).lower() not in NEWEST:
        named = Path(asked)
        check_is_checkpoint(named, deep=True)
        if named.absolute().parent != output.absolute():
            return named
        return output / check_name(named).name
    found, skipped = latest_checkpoint(output, run=_recorded_id(output))
    for sentence in skipped:
        say(sentence)
    if found is None:
        raise UsageError(
            f"--resume_from_checkpoint {asked}: {output} contains no whole checkpoint; start without the option"
        )
    return found


def _recorded_id(output: Path) -> str | None:
    """The id of the run that an output folder contains, by its record."""
    known = read_run_record(output).get("id")
    return None if known is None else str(known)


def _run_of(checkpoint: Path) -> Mapping[str, Any] | None:
    try:
        run = manifest_of(checkpoint).get("run")
    except FileNotFoundError:  # another tool's
        return None
    return run if isinstance(run, dict) else None


def _set_earlier_aside(start: Start, *, say: Callable[[str], None]) -> None:
    """Move what other runs left in the output folder to folders of their own, the record last.

    Raises:
        UsageError: the model that the run starts from is among these files.
    """
    output, moves = start.output, _files_of_others(start)
    model = Path(str(start.run.options.get("model_name_or_path"))).absolute()
    if any(model in (output.absolute(), path.absolute()) for path, _ in moves):
        raise UsageError(
            f"--output_dir {output}: the run would replace the model that it starts from, {model}; "
            "name another --output_dir"
        )
    for path, owner in moves:
        path.rename(_unused(output / EARLIER / owner / path.name))
    for owner in dict.fromkeys(owner for _, owner in moves):
        folder = output / EARLIER / owner
        say(
            f"{output} contained run {owner}, which is now in {folder}; "
            f"to go on with it: --output_dir {folder} --resume_from_checkpoint latest"
        )


def _files_of_others(start: Start) -> list[tuple[Path, str]]:
    """Each file and folder that another run wrote, with the id of that run."""
    output, record = start.output, read_run_record(start.output)
    known = _recorded_id(output) or f"unnamed-{time.strftime('%Y%m%d-%H%M%S')}"
    owners = {folder: run_id_of(folder) or known for folder in checkpoints(output) if folder != start.checkpoint}
    moves = [(folder, owner) for folder, owner in owners.items() if owner != start.run.id]
    if known != start.run.id:
        result = record.get("result", {}).get("files", [])
        found = [name for name in (*WRITTEN_BY_RUNS, *result, RECORD) if (output / name).exists()]
        if moves or {"rollouts", *result} & set(found):  # a run that ended before its first step left nothing to keep
            moves += [(output / name, known) for name in found]
    return moves


def _unused(path: Path) -> Path:
    """``path``, or where it exists already the first such name with a number that does not; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, unused = 1, path
    while unused.exists():
        number += 1
        unused = path.with_name(f"{path.name}-{number}")
    return unused


def _forget_later(checkpoint: Path, output: Path, *, say: Callable[[str], None]) -> None:
    """Take away what the run wrote after the checkpoint that it goes on from: it is written again.

    A later checkpoint that is whole is moved and not removed: the run may take another course this time.
    """
    step = step_of(checkpoint)
    for folder in checkpoints(output):
        if step_of(folder) <= step:
            continue
        if defect(folder) is not None:
            shutil.rmtree(folder)
            continue
        target = _unused(output / EARLIER / f"{run_id_of(folder)}-after-step-{step}" / folder.name)
        folder.rename(target)
        say(f"{folder.name} is later than {checkpoint.name}, which the run goes on from; it is now {target}")
    for part in (output / "rollouts").glob("step-*.parquet"):
        if int(part.name.split("-")[1]) >= step:
            part.unlink()
