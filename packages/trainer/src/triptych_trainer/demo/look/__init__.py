"""The demo `look`: closed boxes in an overview picture, and a tool that opens one and shows a new picture."""

from triptych_trainer.demo.look.dataset import write_dataset
from triptych_trainer.demo.look.environment import BlankBoxes, Boxes
from triptych_trainer.demo.look.evaluate import evaluate
from triptych_trainer.demo.look.task import CHANCE, LOOKS
from triptych_trainer.demo.look.tokenizer import build_tokenizer
from triptych_trainer.demo.look.warmup import STAGES, LookWarmup

__all__ = [
    "CHANCE",
    "LOOKS",
    "STAGES",
    "BlankBoxes",
    "Boxes",
    "LookWarmup",
    "build_tokenizer",
    "evaluate",
    "write_dataset",
]
