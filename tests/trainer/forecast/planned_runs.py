"""Command lines of runs that are only planned."""

from typing import Any

from triptych_trainer.options.arguments import RunConfig, parse_run


def run_config(**options: Any) -> RunConfig:
    """The parsed command line of a run with these options."""
    argv = ["--model_name_or_path", "unused", "--data", "unused", "--output_dir", "unused"]
    for name, value in options.items():
        argv += (
            [f"--{name}"]
            if value is True and name in ("freeze_vision_modules", "use_peft")
            else [f"--{name}", str(value)]
        )
    return parse_run(argv)
