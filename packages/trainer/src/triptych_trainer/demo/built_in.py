"""The built-in demos, each as the parts that a run needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from triptych_data import read_examples

from triptych_trainer.demo import look
from triptych_trainer.demo.dataset import write_dataset
from triptych_trainer.demo.evaluate import HELDOUT_SPLIT, Evaluation, evaluate, heldout_samples
from triptych_trainer.demo.model import build_model
from triptych_trainer.demo.processor import build_processor
from triptych_trainer.demo.recipe import GRPORecipe, LookOptions
from triptych_trainer.demo.task import CHANCE, Placement
from triptych_trainer.demo.tokenizer import build_tokenizer
from triptych_trainer.demo.warmup import STAGES, WarmupRecipe, WarmupStage

__all__ = ["BuiltIn", "built_in"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltIn:
    """Describes one demo, for a seed."""

    name: str
    about: str
    """What it shows, in one sentence."""
    settings: Mapping[str, Any]
    """The settings in which this run differs from others of the demo, other than its seed."""
    recipe: GRPORecipe
    warmup: Any
    """The settings of its warm-up."""
    stages: Sequence[WarmupStage]
    chance: Mapping[Any, float | None]
    """The share right of a guess, by kind of question; None where everything needed is visible."""
    calls: Mapping[Any, int] | None
    """How many calls each kind of question needs; None without tools."""
    build: Callable[[], tuple[Any, Any]]
    """Makes its model and its processor."""
    write_data: Callable[..., Path]
    run_stage: Callable[..., Any]
    evaluate: Callable[..., Evaluation]
    environment: Callable[[], Any] | None = None


def built_in(name: str, *, seed: int, placement: Placement = "in_place", blank_tool: bool = False) -> BuiltIn:
    """Return the demo of that name; ``placement`` is a setting of `places`, ``blank_tool`` of `look`."""
    return _look(seed, blank_tool=blank_tool) if name == "look" else _places(seed, placement=placement)


def _places(seed: int, *, placement: Placement) -> BuiltIn:
    recipe = GRPORecipe()

    def build() -> tuple[Any, Any]:
        return build_model(seed), build_processor(build_tokenizer())

    def measured(trained: Any, own: Any, *, folder: Path, sampled: bool) -> Evaluation:
        samples = heldout_samples(recipe.num_heldout, seed=seed)
        return evaluate(trained, processor=own, samples=samples, placement=placement, sampled=sampled)

    return BuiltIn(
        name="places",
        about=(
            "questions about several pictures, answered right only by who keeps each picture in its place.\n"
            f"seed {seed}, pictures {'at their markers' if placement == 'in_place' else 'all moved to the front'}"
        ),
        settings={"placement": placement},
        recipe=recipe,
        warmup=WarmupRecipe(),
        stages=STAGES,
        chance=CHANCE,
        calls=None,
        build=build,
        write_data=partial(write_dataset, seed=seed, placement=placement),
        run_stage=lambda stage, *args, **options: stage.run(*args, seed=seed, placement=placement, **options),
        evaluate=measured,
    )


def _look(seed: int, *, blank_tool: bool) -> BuiltIn:
    recipe = GRPORecipe(options=LookOptions())
    boxes = look.BlankBoxes if blank_tool else look.Boxes

    def build() -> tuple[Any, Any]:
        own = look.build_tokenizer()
        return build_model(seed, own), build_processor(own)

    def measured(trained: Any, own: Any, *, folder: Path, sampled: bool) -> Evaluation:
        rows = look.write_dataset(folder, split=HELDOUT_SPLIT, num_samples=recipe.num_heldout, seed=seed)
        examples = list(read_examples(rows, image_root=folder / "images"))
        return look.evaluate(trained, processor=own, examples=examples, environment=boxes, sampled=sampled)

    return BuiltIn(
        name="look",
        about=(
            "questions about closed boxes, answered right only by who opens the right ones and no others.\n"
            f"seed {seed}, an opened box shows {'a grey picture' if blank_tool else 'what is in it'}"
        ),
        settings={"blank_tool": blank_tool},
        recipe=recipe,
        warmup=look.LookWarmup(),
        stages=look.STAGES,
        chance=look.CHANCE,
        calls=look.LOOKS,
        build=build,
        write_data=partial(look.write_dataset, seed=seed),
        run_stage=lambda stage, *args, **options: stage.run(*args, seed=seed, **options),
        evaluate=measured,
        environment=boxes,
    )
