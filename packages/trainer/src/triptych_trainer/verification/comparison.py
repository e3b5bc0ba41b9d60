"""Rows on which a model is compared with its own stock forward, and by how much each comparison differs.

    inputs     our plain pass against the stock forward, one row at a time, under the attention that the user chose
    attention  the stock forward under our attention function against the same under the user's
    sampling   the first tokens of `shared_generate`, led along the completion, against the stock forward

All three together cost one forward of the rows, the stock one: our plain pass runs towers and backbone again only on
inputs that are not those of the stock forward (`replays`), and the tokens are sampled from prompts that the run has
prefilled for itself.

The first comparison repeats the stock arithmetic in the same shapes. Where ids, positions, masks and features are right
it differs by less than 1e-6 in float32 and in bfloat16 alike, so its bound applies to both. The other two take other
kernels: in half precision their bound follows from the difference between two stock forwards of the same row, with and
without pads on its left. Where the tower encodes a row's images in another batch than the stock forward (one image at
two markers), the first bound follows from the difference that such batches make.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial

import torch

from triptych_trainer.forward.batch import GroupBatch
from triptych_trainer.forward.encode import encode_images
from triptych_trainer.forward.hooks import own_attention
from triptych_trainer.forward.logps import plain_logps
from triptych_trainer.forward.prefill import Prefilled
from triptych_trainer.forward.sharded import is_sharded
from triptych_trainer.forward.verify import in_half_precision
from triptych_trainer.models.families import ImageFeatures
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.verification.first_tokens import NUM_TOKENS, sampling_distributions
from triptych_trainer.verification.ranks import of_ranks
from triptych_trainer.verification.replays import Replays, replayable
from triptych_trainer.verification.stock_inputs import StockInputs
from triptych_trainer.verification.stock_pass import stock_distributions
from triptych_trainer.verification.swaps import culprits

__all__ = ["ALLOWED", "ALLOWED_HALF", "ComparedRow", "Comparison", "Difference", "OpenModel"]

OpenModel = Callable[[], AbstractContextManager[torch.nn.Module]]
ALLOWED = 1e-3
"""Largest mean difference of log-probabilities where both sides compute the same in the same way, and in float32."""
ALLOWED_HALF = 1e-2
"""The least bound in half precision where the two sides take different kernels."""
_TIMES_NOISE = 2.0
_OUTLIER = 20.0
"""By how much a single token may differ more than the bound in half precision."""
_PADS = (3, 16)


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRow:
    """Contains one prompt to compare on, alone in its batch row."""

    where: str
    """Its name in error messages."""
    inputs: StockInputs
    completion: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Contains what one comparison found: mean differences of log-probabilities, the largest over rows and ranks."""

    found: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether it is no more than rounding."""
        return self.found <= self.allowed


class Comparison:
    """Contains the rows, what the stock forward says of them, and how far we are from it."""

    def __init__(self, model: torch.nn.Module, batch: GroupBatch, rows: Sequence[ComparedRow]) -> None:
        """Run the stock forward over the prompts of ``batch``, of which ``rows[p]`` contains the stock inputs."""
        base = unwrap(model)
        self.sharded = is_sharded(base)
        self.model = model if self.sharded else base  # what wraps whole weights may ask other ranks for something
        self.batch, self.rows = batch, rows
        self.worst = 0
        """This rank's row that differed most in the last comparison."""
        self.where = ""
        """The row that differed most on any rank."""
        self._worst_rank = 0
        self._pads: tuple[int, ...] = _PADS
        self.replays = Replays(replayable(base), in_step=self.sharded)
        with own_attention(self.model) as self.attention_is_replaced, self.replays.recording():
            self.stock = [stock_distributions(self.model, row.inputs, row.completion) for row in rows]

    def agrees_at_once(self, *, attention_follows: bool) -> bool:
        """Return whether our plain pass equals the stock forward, computed only where its inputs differ.

        It runs under our own attention, so that inputs and attention are right if it does. Where our attention is
        another function than the user's, everything has to be computed; if the comparison of the sampling follows,
        which runs under our attention, too, our pass runs under the user's instead.
        """
        with ExitStack() as entered:
            if self.attention_is_replaced and attention_follows:
                entered.enter_context(own_attention(self.model))
            if attention_follows or not self.attention_is_replaced:
                entered.enter_context(self.replays.replaying())
            found = self._largest_of_plain()
        self.replays.calls.clear()
        return found <= ALLOWED

    def _largest_of_plain(self) -> float:
        return self._largest([float(self._differences(p, self.plain(p)).mean()) for p in range(len(self.rows))])

    def inputs(self) -> Difference:
        """Return our plain pass: ids, positions, masks, features and their places."""
        with own_attention(self.model):
            found = self._largest_of_plain()
        return self._difference(found, allowed=ALLOWED, noise=self._noise_of_features)

    def attention(self) -> Difference:
        """Return the attention function that `prepare` installed, in a call without a shared pass."""
        if not self.attention_is_replaced:
            return Difference(found=0.0, allowed=ALLOWED)
        values = [stock_distributions(self.model, row.inputs, row.completion) for row in self.rows]
        found = self._largest(
            [self._typical(self._differences(p, self._labels(p, logps_KV))) for p, logps_KV in enumerate(values)]
        )
        return self._difference(found, allowed=self._least(), noise=self._noise_of_labels)

    def sampling(self, open_model: OpenModel, *, begun: Prefilled | None = None) -> Difference:
        """Return by how much what the first tokens are sampled from differs.

        ``begun`` are the prompts of the rows, if they have been prefilled. Where our attention is another function than
        the user's, this comparison is the one that decides on it, and every known token is sampled.
        """
        most = max(len(row.completion) for row in self.rows) if self.attention_is_replaced and self.rows else NUM_TOKENS
        with open_model() as model:
            known = [row.completion for row in self.rows]
            found_PKV = sampling_distributions(model, self.batch, known, begun=begun, most=most) if known else ()
        if begun is not None:
            self._pads = tuple(sorted({*_PADS, *begun.layout.offsets}))
        found = self._largest(
            [self._typical(_expected_differences(self.stock[p], logps_KV)) for p, logps_KV in enumerate(found_PKV)]
        )
        noise = partial(self._noise_of_sampling, most)
        return self._difference(found, allowed=self._least(), noise=noise)

    def plain(self, row: int, *, features: ImageFeatures | None = None) -> torch.Tensor:
        """Return our log-probabilities [C] of one row, without other rows and without pads."""
        part, _ = self.batch.select([row])
        part = part.with_completions([[self.rows[row].completion]])
        return plain_logps(self.model, part, features=features)[0][0]

    def causes(self) -> list[str]:
        """Return which inputs of the text backbone make the worst row differ; nothing if the weights are sharded."""
        if self.sharded:
            return []
        return of_ranks(self._causes() if self.rows else [])[self._worst_rank]

    def _causes(self) -> list[str]:
        p = self.worst
        row, spans = self.rows[p], self.batch.spans[p]
        images_T = torch.zeros(row.inputs["input_ids"].shape[1] + len(row.completion), dtype=torch.bool)
        for start, count in (run for span in spans for run in span.runs):
            images_T[start : start + count] = True
        with own_attention(self.model):
            return culprits(
                self.model,
                stock=lambda: stock_distributions(self.model, row.inputs, row.completion),
                ours=lambda: self.plain(p),
                agrees=lambda logps_C: float(self._differences(p, logps_C).mean()) <= ALLOWED,
                images_T=images_T,
            )

    def _least(self) -> float:
        return ALLOWED_HALF if in_half_precision(self.model) else ALLOWED

    def _difference(self, found: float, *, allowed: float, noise: Callable[[], float]) -> Difference:
        """With the fixed bound, or in half precision with a multiple of the model's noise where that is larger."""
        if found > allowed and in_half_precision(self.model):
            allowed = max(allowed, _TIMES_NOISE * noise())
        return Difference(found=found, allowed=allowed)

    def _noise_of_features(self) -> float:
        """How much our plain pass changes when the tower encodes a row's images one by one, or each of them twice."""
        if self.sharded:
            return self._noise_of_labels()
        found = [0.0]
        with own_attention(self.model):
            for p in range(len(self.rows)):
                images = self.batch.select([p])[0].images
                if images:
                    alone = [part for part in (encode_images(self.model, [image]) for image in images) if part]
                    twice = encode_images(self.model, [*images, *images])
                    assert twice is not None
                    for features in (ImageFeatures.join(alone), twice.select(range(len(images)))):
                        found.append(float((self.plain(p, features=features) - self.plain(p)).abs().mean()))
        return self._largest_noise(found)

    def _noise_of_labels(self) -> float:
        return self._noise(lambda p, logps_KV: self._differences(p, self._labels(p, logps_KV)))

    def _noise_of_sampling(self, num_tokens: int) -> float:
        return self._noise(lambda p, logps_KV: _expected_differences(self.stock[p], logps_KV[:num_tokens]))

    def _noise(self, differences: Callable[[int, torch.Tensor], torch.Tensor]) -> float:
        """The difference between two stock forwards of one row whose inputs differ only in pads."""
        with own_attention(self.model):
            found = [
                float(differences(p, stock_distributions(self.model, row.inputs, row.completion, pads=pads)).mean())
                for p, row in enumerate(self.rows)
                for pads in self._pads
            ]
        return self._largest_noise(found)

    def _labels(self, row: int, logps_KV: torch.Tensor) -> torch.Tensor:
        labels = torch.tensor(self.rows[row].completion, device=logps_KV.device)[:, None]
        return logps_KV[: len(labels)].gather(-1, labels)[:, 0]

    def _differences(self, row: int, logps_C: torch.Tensor) -> torch.Tensor:
        return (logps_C - self._labels(row, self.stock[row])).abs()

    def _typical(self, differences_K: torch.Tensor) -> float:
        """Their mean; in half precision their median, or a part of the largest one if that is more.

        There a router may take another expert for one token by rounding alone, and then that token differs by much.
        """
        if not in_half_precision(self.model):
            return float(differences_K.mean())
        return float(torch.maximum(differences_K.median(), differences_K.max() / _OUTLIER))

    def _largest_noise(self, differences: Sequence[float]) -> float:
        before = self.worst, self.where, self._worst_rank
        noise = self._largest(differences)
        self.worst, self.where, self._worst_rank = before
        return noise

    def _largest(self, differences: Sequence[float]) -> float:
        """The largest value of all rows and ranks; a value that is not a number counts as infinite."""
        known = [value if value == value else float("inf") for value in differences] or [0.0]
        self.worst = max(range(len(known)), key=known.__getitem__)
        where = self.rows[self.worst].where if self.worst < len(self.rows) else ""
        found = of_ranks((known[self.worst], where))
        self._worst_rank = max(range(len(found)), key=lambda rank: found[rank][0])
        largest, self.where = found[self._worst_rank]
        return largest


def _expected_differences(stock_CV: torch.Tensor, found_KV: torch.Tensor) -> torch.Tensor:
    """For each position the difference of log-probabilities [K] that a token has on average which the model samples."""
    expected_KV = stock_CV[: len(found_KV)]
    difference_KV = (found_KV.to(expected_KV.device) - expected_KV).abs()
    return (expected_KV.exp() * difference_KV).sum(-1)
