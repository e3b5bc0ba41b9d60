"""The supervised warm-up: words in place of pictures, then pictures, then the habits that GRPO has to break."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_trainer.demo.learning import move_shares, optimizers_of, scale_learning_rates, train_step
from triptych_trainer.demo.look.batches import supervised_batch
from triptych_trainer.demo.look.dialogue import Said, bare, careful, habitual, with_needless_look
from triptych_trainer.demo.look.task import QUESTION_KINDS, BoxSample, QuestionKind, make_sample
from triptych_trainer.demo.warmup import WarmupStage, WarmupStep

__all__ = ["STAGES", "LookWarmup", "habit_stage", "see_stage", "text_stage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LookWarmup:
    """Contains all settings of the warm-up, other than the seed."""

    batch_size: int = 32
    text_accuracy: float = 0.97
    """The text stage ends when the running share of exactly right dialogues passes this in every kind."""
    max_text_steps: int = 240
    see_accuracy: float = 0.9
    """The second stage ends when `one` and `two` pass this."""
    max_see_steps: int = 240
    habit_steps: int = 50
    habit_share: float = 0.6
    """Share of the third stage's dialogues that follow a habit."""
    bare_share: float = 0.03
    """Share of the third stage's dialogues whose answer has no tags."""
    habit_scale: float = 0.3
    """Both learning rates of the third stage, against the first two; they fall to zero over its second half."""
    muon_learning_rate: float = 0.006
    muon_momentum: float = 0.95
    adamw_learning_rate: float = 3e-3


def text_stage(model: Any, *, processor: Any, seed: int, recipe: LookWarmup) -> Iterator[WarmupStep]:
    """Learn when to look and what to answer, with colour words where the pictures will be."""

    def dialogue(sample: BoxSample, rng: random.Random) -> list[Said]:
        return careful(sample)

    return _until(
        model,
        dialogue,
        processor=processor,
        seed=seed,
        split="look-text",
        recipe=recipe,
        kinds=QUESTION_KINDS,
        accuracy=recipe.text_accuracy,
        max_steps=recipe.max_text_steps,
        words_for_pictures=True,
    )


def see_stage(model: Any, *, processor: Any, seed: int, recipe: LookWarmup) -> Iterator[WarmupStep]:
    """Learn to see; half of `lids` look first all the same, so that an answer after a needless look is right too."""

    def dialogue(sample: BoxSample, rng: random.Random) -> list[Said]:
        return with_needless_look(sample, rng) if sample.kind == "lids" and rng.random() < 0.5 else careful(sample)

    return _until(
        model,
        dialogue,
        processor=processor,
        seed=seed,
        split="look-see",
        recipe=recipe,
        kinds=("one", "two"),
        accuracy=recipe.see_accuracy,
        max_steps=recipe.max_see_steps,
    )


def habit_stage(model: Any, *, processor: Any, seed: int, recipe: LookWarmup) -> Iterator[WarmupStep]:
    """Learn habits: needless looks, guesses without a look, and looks into the wrong box."""
    model.train()
    optimizers, shares = _optimizers(model, recipe), dict.fromkeys(QUESTION_KINDS, 0.0)
    rng = random.Random(f"{seed}/look-habits")
    for step in range(1, recipe.habit_steps + 1):
        left = (recipe.habit_steps - step + 1) / max(1, recipe.habit_steps // 2)
        scale_learning_rates(optimizers, scale=recipe.habit_scale * min(1.0, left))
        samples = _samples(step, seed=seed, split="look-habits", batch_size=recipe.batch_size)
        dialogues = [(sample, _mixed(sample, rng, recipe=recipe)) for sample in samples]
        yield _step(model, dialogues, step=step, optimizers=optimizers, shares=shares, processor=processor)


STAGES = (
    WarmupStage(name="text", num_steps=lambda recipe: recipe.max_text_steps, run=text_stage),
    WarmupStage(name="see", num_steps=lambda recipe: recipe.max_see_steps, run=see_stage),
    WarmupStage(name="habits", num_steps=lambda recipe: recipe.habit_steps, run=habit_stage),
)


def _until(
    model: Any,
    dialogue: Callable[[BoxSample, random.Random], list[Said]],
    *,
    processor: Any,
    seed: int,
    split: str,
    recipe: LookWarmup,
    kinds: Sequence[QuestionKind],
    accuracy: float,
    max_steps: int,
    words_for_pictures: bool = False,
) -> Iterator[WarmupStep]:
    """Train until the running share of these kinds passes ``accuracy``."""
    model.train()
    optimizers, shares = _optimizers(model, recipe), dict.fromkeys(kinds, 0.0)
    rng = random.Random(f"{seed}/{split}")
    for step in range(1, max_steps + 1):
        samples = _samples(step, seed=seed, split=split, batch_size=recipe.batch_size)
        dialogues = [(sample, dialogue(sample, rng)) for sample in samples]
        done = _step(
            model,
            dialogues,
            step=step,
            optimizers=optimizers,
            shares=shares,
            processor=processor,
            words_for_pictures=words_for_pictures,
        )
        yield done
        if done.accuracy > accuracy:
            return


def _step(
    model: Any,
    dialogues: Sequence[tuple[BoxSample, list[Said]]],
    *,
    step: int,
    optimizers: Any,
    shares: dict[QuestionKind, float],
    processor: Any,
    words_for_pictures: bool = False,
) -> WarmupStep:
    batch = supervised_batch(dialogues, processor=processor, model=model if words_for_pictures else None)
    loss, right_B = train_step(model, batch, optimizers=optimizers)
    move_shares(shares, kinds=[sample.kind for sample, _ in dialogues], right_B=right_B)
    return WarmupStep(step=step, loss=loss, accuracy=min(shares.values()))


def _mixed(sample: BoxSample, rng: random.Random, *, recipe: LookWarmup) -> list[Said]:
    draw = rng.random()
    if draw < recipe.habit_share:
        return habitual(sample, rng)
    return bare(careful(sample)) if draw < recipe.habit_share + recipe.bare_share else careful(sample)


def _samples(step: int, *, seed: int, split: str, batch_size: int) -> list[BoxSample]:
    return [make_sample(step * batch_size + row, seed=seed, split=split) for row in range(batch_size)]


def _optimizers(model: Any, recipe: LookWarmup) -> Any:
    return optimizers_of(
        model,
        muon_learning_rate=recipe.muon_learning_rate,
        muon_momentum=recipe.muon_momentum,
        adamw_learning_rate=recipe.adamw_learning_rate,
    )
