"""What ``triptych merge`` takes; importing it loads nothing heavy, so that its help is there at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from triptych_data.option_parser import OptionParser, add_options, given_path

__all__ = ["DTYPES", "MergeOptions", "parser"]

DTYPES = ("auto", "float32", "float16", "bfloat16")
"""The precisions that merged weights may have."""


@dataclass(kw_only=True)
class MergeOptions:
    """Contains the options that ``merge`` takes in addition to the two folders."""

    dtype: str = field(
        default="auto", metadata={"help": "precision of the merged weights, such as bfloat16 (auto: the base model's)"}
    )
    model_revision: str | None = field(default=None, metadata={"help": "branch, tag or commit of a hub id"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run model code that the base model brings"})


def parser() -> OptionParser:
    """Return the command's parser."""
    made = OptionParser(
        prog="triptych merge",
        usage="triptych merge ADAPTERS -o FOLDER [options]",
        description="Merge adapters into the weights of their model, and save one model that any engine can serve.",
    )
    made.add_argument("adapters", metavar="ADAPTERS", help="folder or hub id of the adapters, such as a run's output")
    made.add_argument("-o", "--out", type=given_path, metavar="FOLDER", required=True, help="new folder for the model")
    add_options(made, MergeOptions, title="loading")
    return made
