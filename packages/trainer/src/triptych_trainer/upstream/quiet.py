"""Keep the progress bars of libraries off the terminal of a command."""

import logging

from transformers.utils import logging as transformers_logging

__all__ = ["quiet_libraries"]


def quiet_libraries() -> None:
    """Leave the terminal to this run's own lines: warnings of the libraries stay, their progress bars go."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    # Where DeepSpeed is installed, others import it, and it warns that it found no GPU: on a CPU that is no news.
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
