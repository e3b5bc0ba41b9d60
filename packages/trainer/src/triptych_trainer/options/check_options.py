"""What ``triptych check`` takes: the options of the data package's own command, and the rewards of the run."""

from triptych_data.check_options import parser as data_parser
from triptych_data.option_parser import OptionParser, add_options

from triptych_trainer.options.answer_options import AnswerOptions
from triptych_trainer.options.tool_options import ToolOptions

__all__ = ["parser"]


def parser() -> OptionParser:
    """The command's parser."""
    made = data_parser()
    add_options(made, AnswerOptions, title="answers, as for train (boxes as the model sees them need --model)")
    add_options(made, ToolOptions, title="tools, as for train: imported, and shown as the model reads them")
    return made
