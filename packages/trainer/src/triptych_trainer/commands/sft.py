"""``triptych sft``: train on the turns of the assistant, with the data, checks and checkpoints of ``train``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from triptych_data.adapter_folder import adapter_folder
from triptych_data.options import image_policy
from triptych_data.progress import Reporter
from triptych_data.seen_headers import SeenHeaders

from triptych_trainer.checkpoints.lock import one_run_in
from triptych_trainer.commands.begun import begun, processor_of
from triptych_trainer.commands.launch import launched
from triptych_trainer.commands.model_options import check_model_options
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.commands.train import read_data, reporter_of
from triptych_trainer.models.families import use_own_family
from triptych_trainer.options.help import print_help
from triptych_trainer.options.own_code import read_tools
from triptych_trainer.options.refusals import check_trackers
from triptych_trainer.options.run_folders import check_output_folder
from triptych_trainer.options.sft_arguments import SftConfig, parse_sft, prompt_settings
from triptych_trainer.options.words import check_model_and_data
from triptych_trainer.sft.row_check import row_check_of, stored_end_ids
from triptych_trainer.sft.tools import tool_dress
from triptych_trainer.training.sft import train_sft
from triptych_trainer.upstream.quiet import quiet_libraries

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Run ``triptych sft`` and return its exit code: 0, or 2 with one line on standard error."""
    return outcome("triptych sft", lambda: _sft(argv))


def _sft(argv: Sequence[str]) -> int:
    if print_help("sft", argv):
        return 0
    if (code := launched("sft", argv)) is not None:
        return code
    config = parse_sft(argv)
    check_model_and_data(config.model.model_name_or_path, config.run.data, command="sft")
    quiet_libraries()
    use_own_family(config.run.family)
    check_trackers(config.sft)
    check_model_options(config)
    check_output_folder(Path(config.sft.output_dir))
    reporter = reporter_of(config)
    with one_run_in(config.sft, say=reporter.say):
        return _run_alone(config, path=config.model.model_name_or_path, reporter=reporter)


def _run_alone(config: SftConfig, *, path: str, reporter: Reporter) -> int:
    """Train in an output folder that no other run writes into."""
    output, trust = Path(config.sft.output_dir), config.sft.trust_remote_code
    revision = config.model.model_revision
    processor = processor_of(config, path)
    folder = adapter_folder(path, revision=revision, option="--model_name_or_path")
    base, base_revision = (path, revision) if folder is None else (folder.base, folder.base_revision)
    seen = SeenHeaders(policy=image_policy(config.run))
    end_ids = stored_end_ids(base, processor, revision=base_revision)
    tools = read_tools(config.run.tools)
    dress, settings = tool_dress(processor, prompt_settings(config.run), tools, end_ids=end_ids)
    row_check = row_check_of(processor, settings, end_ids=end_ids, max_tokens=config.sft.max_length, dress=dress)
    examples, held_out = read_data(config, seen, row_check=row_check, reporter=reporter, sft=True)
    num_held_out = 0 if held_out is None else len(held_out)
    reporter.say(f"{len(examples)} conversations with {examples.checked.num_images} images; {num_held_out} held out")
    start, model = begun(
        config,
        path,
        examples=examples,
        held_out=held_out,
        seen=seen,
        processor=processor,
        trust_remote_code=trust,
        reporter=reporter,
    )
    training = train_sft(
        model,
        processor,
        examples=examples,
        held_out=held_out or (),
        config=config,
        start=start,
        reporter=reporter,
        settings=settings,
        dress=dress,
        seen=seen,
    )
    if training.stopped_at is None:
        reporter.conclude(f"model: {output}   log: {output / 'trainer_state.json'}   curves: {output / 'report.html'}")
    training.trainer.accelerator.end_training()
    return 0


if __name__ == "__main__":  # the form in which `launch` starts each process
    import sys

    from triptych_trainer.cli import main as triptych

    sys.exit(triptych(["sft", *sys.argv[1:]]))
