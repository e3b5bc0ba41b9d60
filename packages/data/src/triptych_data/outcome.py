"""How a command ends: its exit code, and one line for what the user can correct."""

from __future__ import annotations

import sys
from collections.abc import Callable

from triptych_parser import Refusal
from triptych_parser.printable import printable

REFUSED = 2


def outcome(command: str, run: Callable[[], int]) -> int:
    """Run a command and return its exit code; what the user can correct is one line on standard error and exit code 2.

    That is every `Refusal`, files and folders that the system refuses, and a lack of memory. Any other exception is a
    fault of the program and keeps its traceback.
    """
    try:
        return run()
    except Refusal as error:
        text = str(error)
    except MemoryError as error:
        text = f"this machine has no memory left ({error or 'an allocation failed'}); close other programs or read less"
    except OSError as error:
        text = _of_system(error)
    # What a user's own code raises may have many lines.
    text = " ".join(line.strip() for line in printable(text).splitlines())
    print(f"{command}: error: {text}", file=sys.stderr)
    return REFUSED


def _of_system(error: OSError) -> str:
    if error.strerror is None:
        return " ".join(str(error).split())
    place = "" if error.filename is None else f"{error.filename}: "
    return f"{place}the system refuses it ({error.strerror}); check the path, its permissions and the free space"
