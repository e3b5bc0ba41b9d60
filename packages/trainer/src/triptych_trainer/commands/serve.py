"""``triptych serve MODEL``: a vLLM server for the rollouts of a run."""

import os
from collections.abc import Sequence

from triptych_trainer.commands.outcome import outcome
from triptych_trainer.options.serve_options import parser
from triptych_trainer.serving.command import ENVIRONMENT, server_command

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Become vLLM's server; return 2 after one line that says why it cannot be."""
    return outcome("triptych serve", lambda: _serve(argv))


def _serve(argv: Sequence[str]) -> int:
    model = parser().parse_known_args(argv)[0].model
    rest = list(argv)
    rest.remove(model)
    command = server_command(model, rest)
    os.execve(command[0], command, {**os.environ, **ENVIRONMENT})
