"""Finds out that a run cannot learn: what has not changed for too many steps, and the likely cause. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from triptych_parser.printable import printable

from triptych_trainer.monitor.weight_change import Update

__all__ = ["Finding", "Generation", "Standstill", "in_words"]

SHOWN_CHARACTERS = 120
FEWEST_WEIGHTS, SMALLEST_SHARE = 32, 0.05
"""An update of so many weights that changes less than this share of them is lost to rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """Contains the facts about one generation of all ranks that say whether anything can be learned."""

    scores: Mapping[str, Sequence[float]]
    """By the name of each reward that counts, one score per completion; NaN where it does not apply."""
    totals: Sequence[float]
    """The weighted sum of each completion."""
    keys: Sequence[int]
    """The group of each completion."""
    cut_share: float
    """Share of the completions that reached the limit of tokens."""
    same_texts: bool = False
    """Whether the completions of every group are the same, token for token."""
    example: str = ""
    """The text of one completion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Describes one thing that has not changed."""

    kind: str
    """`cut`, `constant NAME`, `unscored NAME`, `dead`, `gradient` or `weights`."""
    fact: str
    cause: str


@dataclass(kw_only=True, slots=True)
class Standstill:
    """Remembers since which step each thing has not changed."""

    num_steps: int
    """The number of steps after which there is a warning, once."""
    max_completion_tokens: int | None = None
    mask_truncated: bool = False
    since: dict[str, int] = field(default_factory=dict)
    """By kind, the number of steps that were done when it began."""
    varied: set[str] = field(default_factory=set)
    """Rewards that have had two values: a reward that a model has learned to earn always is no fault."""
    said: set[str] = field(default_factory=set)
    last: Generation | None = None
    first_scores: dict[str, float] = field(default_factory=dict)
    num_completions: int = 0
    last_update: Update | None = None

    def learn_from_log(self, history: Sequence[Mapping[str, object]]) -> None:
        """Read in the log of a resumed run which rewards have varied before."""
        for name in {key.removeprefix("rewards/").removesuffix("/std") for entry in history for key in entry}:
            spreads = [entry.get(f"rewards/{name}/std") for entry in history]
            means = {entry[key] for entry in history if (key := f"rewards/{name}/mean") in entry}
            if len(means) > 1 or any(isinstance(spread, float) and spread > 0 for spread in spreads):
                self.varied.add(name)

    def see(self, generation: Generation, *, step: int) -> None:
        """Take in a generation that was made after ``step`` steps."""
        self.last = generation
        self.num_completions += len(generation.totals)
        self._note("cut", generation.cut_share >= 1.0, step=step)
        self._note("dead", _all_dead(generation), step=step)
        for name, scores in generation.scores.items():
            known = [score for score in scores if not math.isnan(score)]
            self._note(f"unscored {name}", not known, step=step)
            if known and any(score != self.first_scores.setdefault(name, known[0]) for score in known):
                self.varied.add(name)
            self._note(f"constant {name}", bool(known) and name not in self.varied, step=step)

    def see_gradient(self, norm: float, *, step: int) -> None:
        """Take in the norm of the gradient of the step that made ``step`` steps."""
        self._note("gradient", norm == 0, step=step - 1)

    def see_update(self, update: Update, *, step: int) -> None:
        """Take in what the optimizer changed in the step that made ``step`` steps; one such step is enough."""
        self.last_update = update
        is_lost = update.num_weights >= FEWEST_WEIGHTS and update.num_changed < SMALLEST_SHARE * update.num_weights
        self._note("weights", is_lost, step=step - self.num_steps)

    def findings(self, step: int) -> list[Finding]:
        """Return what has not changed for `num_steps` steps at ``step``, the likely cause first; each kind is returned
        once in a run.
        """
        if self.num_steps < 1:
            return []
        late = {kind for kind, begun in self.since.items() if step - begun >= self.num_steps} - self.said
        self.said |= late
        ordered = sorted(late, key=lambda kind: (_ORDER.index(kind.partition(" ")[0]), kind))
        return [self._finding(kind) for kind in ordered]

    def _note(self, kind: str, holds: bool, *, step: int) -> None:
        if holds:
            self.since.setdefault(kind, step)
        else:
            self.since.pop(kind, None)

    def _finding(self, kind: str) -> Finding:
        what, _, name = kind.partition(" ")
        if what == "cut":
            return self._cut()
        if what == "dead":
            return _dead(same_texts=self.last is not None and self.last.same_texts)
        if what == "unscored":
            fact = f"reward {name} scored no completion (it returned None for all of them)"
            return Finding(kind=kind, fact=fact, cause=f"a column that {name} needs is missing or empty in every row")
        if what == "constant":
            return self._constant(kind, name)
        if what == "weights" and self.last_update is not None:
            return _lost(self.last_update)
        return Finding(
            kind=kind,
            fact="the norm of the gradient was 0",
            cause=(
                "nothing that is trained takes part in the loss (see --lora_target_modules and "
                "--freeze_vision_modules), or the advantages of all completions are 0"
            ),
        )

    def _cut(self) -> Finding:
        limit = "" if self.max_completion_tokens is None else f" of {self.max_completion_tokens} tokens"
        masked = " With --mask_truncated_completions the loss then counts no token." if self.mask_truncated else ""
        return Finding(
            kind="cut",
            fact=f"every completion was cut at the limit{limit}",
            cause=(
                "no answer gets finished: raise --max_completion_length, or ask for shorter answers; a model that "
                f"never ends its turn may be given a chat template that is not its own.{masked}"
            ),
        )

    def _constant(self, kind: str, name: str) -> Finding:
        value = self.first_scores[name]
        if value > 0:
            cause = f"every completion earns {name} already: leave it out of --reward, or take harder rows"
        elif name == "format":
            cause = (
                "the prompt does not ask for <think>…</think><answer>…</answer>, which is what format pays: say so in "
                "the prompt or the system prompt, or leave format out of --reward"
            )
        else:
            cause = f"the task is too hard for this model, or {name} cannot read what it answers"
        if self.last is not None and self.last.example:
            cause += f" (one of the completions: {_short(self.last.example)!r})"
        return Finding(kind=kind, fact=f"reward {name} was {value:g} for every completion", cause=cause)


_ORDER = ("cut", "unscored", "constant", "dead", "gradient", "weights")
"""Causes before effects: cut completions have no answer, equal rewards give no advantage, and so no gradient."""


def in_words(findings: Sequence[Finding], *, step: int, num_steps: int) -> str:
    """Return one warning that names all findings, and the likely cause of the first of them."""
    facts = "; ".join(finding.fact for finding in findings)
    kinds = {finding.kind for finding in findings}
    meaning = "there is nothing to learn from it"
    if not kinds.isdisjoint(("dead", "gradient", "weights")):
        meaning = "the run does not learn"
    elif kinds == {"cut"}:
        meaning = "what is rewarded is the beginning of an answer"
    return printable(
        f"in the steps {step - num_steps + 1} to {step} {facts}: {meaning}. Likely cause: {findings[0].cause}"
    )


def _all_dead(generation: Generation) -> bool:
    """Whether in every group all scored completions are worth the same."""
    worth: dict[int, set[float]] = {}
    for key, total in zip(generation.keys, generation.totals, strict=True):
        worth.setdefault(key, set()).update(() if math.isnan(total) else (total,))
    return bool(worth) and all(len(values) < 2 for values in worth.values())


def _dead(*, same_texts: bool) -> Finding:
    if same_texts:
        fact = "in every group all completions were the same text"
        cause = "sampling does not vary: raise --temperature, and look at --top_k, --top_p and generation_kwargs"
    else:
        fact = "in every group all completions earned the same reward"
        cause = (
            "the rows are all too easy or all too hard for this model: take others, raise --temperature or "
            "--num_generations, or add a reward that differs between the completions of a prompt"
        )
    return Finding(kind="dead", fact=fact, cause=cause)


def _lost(update: Update) -> Finding:
    fact = (
        f"an update changed {update.num_changed:,} of {update.num_weights:,} weights that had a gradient and were "
        "looked at"
    )
    rate = f"the learning rate {update.learning_rate:g}"
    if update.dtype in ("bfloat16", "float16"):
        cause = (
            f"updates at {rate} are lost where weights in {update.dtype} are rounded: leave out --dtype, so that they "
            "are float32, train adapters (--use_peft), or raise --learning_rate"
        )
    else:
        cause = f"{rate} is too small for these weights: raise it, and look at --max_grad_norm and --warmup_steps"
    return Finding(kind="weights", fact=fact, cause=cause)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
