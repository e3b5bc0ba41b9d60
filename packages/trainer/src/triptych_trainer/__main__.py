"""``python -m triptych_trainer`` is ``train``: the form that ``accelerate launch -m`` takes."""

import sys

from triptych_trainer.cli import train

if __name__ == "__main__":
    sys.exit(train())
