"""What ``triptych score`` takes; importing it loads nothing heavy, so that its help is there at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from triptych_data.option_parser import OptionParser, add_options, given_path
from triptych_data.options import DataOptions

from triptych_trainer.options.page_options import PageOptions

__all__ = ["ScoreOptions", "parser"]


@dataclass(kw_only=True)
class ScoreOptions(PageOptions):
    """Contains the options that ``score`` takes in addition to the folder and the data."""

    reward: list[str] = field(
        default_factory=lambda: ["accuracy", "format"],
        metadata={"metavar": "NAME", "help": "the rewards, as for train"},
    )
    reward_weights: list[float] | None = field(
        default=None, metadata={"help": "a weight for each reward, as for train (default: 1 each)"}
    )
    keep_mixed: str | None = field(
        default=None,
        metadata={"metavar": "FILE", "help": "write the rows whose completions are not all worth the same here"},
    )
    quiet: bool = field(default=False, metadata={"help": "print only warnings, errors and the last lines"})


def parser() -> OptionParser:
    """Return the command's parser."""
    made = OptionParser(
        prog="triptych score",
        usage="triptych score DIR --reward NAME ... [options]",
        description="Score completions that a run or `triptych rollout` sampled before. No model is loaded.",
        epilog="Rewards get the columns of the rows, which are read from --data or from the files in DIR/config.yaml.",
    )
    made.add_argument("run_dir", type=given_path, metavar="DIR", help="output folder of a run or of `triptych rollout`")
    made.add_argument(
        "-o", "--out", type=given_path, metavar="DIR", help="new folder for the rollouts with these scores, and a page"
    )
    add_options(made, ScoreOptions, title="the scores")
    add_options(made, DataOptions, title="rows and images, as for train", leave_out=("on_bad", "max_bad"))
    return made
