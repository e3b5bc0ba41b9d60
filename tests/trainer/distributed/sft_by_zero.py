"""One rank of `triptych sft` with DeepSpeed: python sft_by_zero.py <words of the command>"""

import sys

import deepspeed
from triptych_trainer.cli import main

if __name__ == "__main__":
    deepspeed.ops.__compatible_ops__ = {}  # else it compiles an all-reduce in shared memory, for more than a minute
    sys.exit(main(["sft", *sys.argv[1:]]))
