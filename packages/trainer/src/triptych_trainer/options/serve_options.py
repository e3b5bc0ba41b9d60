"""What ``triptych serve`` takes; importing it loads nothing heavy, so that its help is there at once."""

from __future__ import annotations

from triptych_data.option_parser import OptionParser

__all__ = ["parser"]


def parser() -> OptionParser:
    """Return the command's parser; the options that it does not know are vLLM's."""
    made = OptionParser(
        prog="triptych serve",
        usage="triptych serve MODEL [options of vLLM]",
        description="Serve a model for the rollouts of a run: vLLM's own server, set up to take weights from it.",
        epilog="All other options are those of `vllm serve`: --port 8000, --dtype, --max-model-len and so on. The "
        "server is reached from this machine only, unless --host says otherwise: who reaches it can load weights.",
    )
    made.add_argument("model", metavar="MODEL", help="the folder or name that the run trains")
    return made
