"""What vLLM is asked to return of each sampled token beyond its own log-probability, and what is read from it.

If tokens are drawn from the whole distribution, this is the log-probabilities of the banned tokens, by which the ban is
taken out again (`ban.py`). If `top_p`, `top_k` or `min_p` cut the distribution, it is the tokens that were kept: as a
sampling mask, or as the likeliest tokens. vLLM takes logarithms after it has cut, so that a token that was cut off has
none, and the probabilities of those that were kept are 1 together. If they are less, some of them were not returned.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.vllm.ban import ASKED_LOGPS, BANNED_BIAS, MOST_LOGPS, MOST_TOLD, banned_in, unbanned
from triptych_trainer.rollouts.kept import kept_table
from triptych_trainer.rollouts.sampled import Sampled

__all__ = ["Asking", "asking_for"]

UNTOLD = -9999.0
"""What a server says of a log-probability that it does not know, and of -inf."""
TIES = 8
"""How many tokens are asked for beyond `top_k`: vLLM keeps all tokens that are as likely as the last one."""
ALL_OF_IT = 1e-5
"""How far from 1 the probabilities of all kept tokens are at most, by rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """Says what a generation asks vLLM to return, and reads it."""

    options: Mapping[str, Any]
    """The sampling parameters by which it is asked."""
    banned_ids: Sequence[int]
    bias: float
    """What the ban adds to a banned token's logit, divided by the temperature."""
    number: int | None = None
    """How many of the likeliest tokens are returned, if the kept ones are read from them."""
    has_mask: bool = False
    """Whether the kept tokens are returned as a sampling mask."""

    def sampled(
        self,
        ids: Sequence[int],
        logps: Sequence[float | None],
        told: Sequence[Mapping[int, float | None]],
        *,
        mask: Sequence[Sequence[int]] | None,
        where: str,
    ) -> Sampled:
        """Return one completion, by its log-probabilities and those of other tokens as vLLM returned them.

        Raises:
            UsageError: a token was drawn from more tokens than were returned.
        """
        if self.number is None and not self.has_mask:
            return Sampled(ids=ids, logps=[self._whole(*pair) for pair in zip(logps, told, strict=True)])
        if self.has_mask:
            kept = self._masked(ids, mask, where=where)
        else:
            kept = [
                self._likeliest(token, logp, others, where=f"{where}: token {k + 1} of a completion")
                for k, (token, logp, others) in enumerate(zip(ids, logps, told, strict=True))
            ]
        return Sampled(ids=ids, logps=[_or_nan(logp) for logp in logps], kept=kept_table(kept))

    def read(self, choices: Sequence[Mapping[str, Any]], *, where: str) -> list[Sampled]:
        """Return the completions of a server's answer, in order.

        Raises:
            UsageError: a token was drawn from more tokens than were returned.
        """
        found = []
        for choice in sorted(choices, key=lambda choice: choice["index"]):
            places, mask = choice["logprobs"]["content"], choice.get("sampling_mask")
            logps = [_told(place["logprob"]) for place in places]
            told = [{_token(other): _told(other["logprob"]) for other in place["top_logprobs"]} for place in places]
            found.append(self.sampled(list(choice["token_ids"]), logps, told, mask=mask, where=where))
        return found

    def _whole(self, logp: float | None, told: Mapping[int, float | None]) -> float:
        return math.nan if logp is None else unbanned(logp, told, banned_ids=self.banned_ids, bias=self.bias)

    def _masked(self, ids: Sequence[int], mask: Sequence[Sequence[int]] | None, *, where: str) -> list[list[int]]:
        if (
            mask is None
            or len(mask) != len(ids)
            or any(token not in kept for token, kept in zip(ids, mask, strict=True))
        ):
            raise UsageError(
                f"{where}: the vLLM server was started with --return-sampling-mask, and returned no mask with every "
                "sampled token in it; start it without that option"
            )
        banned = set(self.banned_ids)
        return [[token for token in kept if token not in banned] for kept in mask]

    def _likeliest(self, token: int, logp: float | None, told: Mapping[int, float | None], *, where: str) -> list[int]:
        """Return the tokens that were kept; none where vLLM does not know the sampled token's log-probability."""
        if logp is None:
            return []
        every = {token: logp, **told}
        kept = {one: value for one, value in every.items() if value is not None and value > UNTOLD}
        share = sum(map(math.exp, kept.values()))
        assert self.number is not None
        if abs(share - 1) > ALL_OF_IT and (len(kept) < self.number or share > 1):
            raise UsageError(
                f"{where}: vLLM returned {len(kept)} of the {self.number} likeliest tokens that were asked for, whose "
                f"probabilities are {share:.4f} together instead of 1, so that they are not the tokens that it drew "
                "from; let no other program sample from the same server, or leave out --top_p, --top_k and --min_p"
            )
        if share < 1 - ALL_OF_IT:
            raise UsageError(
                f"{where}: vLLM drew it from more tokens than the {self.number} likeliest that it returns, which have "
                f"{share:.4f} of the probability, so that it cannot be scored over the same tokens; set --top_k to at "
                f"most {self.number}, start a server with a larger --max-logprobs, or leave out --top_p and --min_p"
            )
        banned = set(self.banned_ids)
        return [one for one in kept if one not in banned]


def asking_for(
    sampling: Mapping[str, Any], *, mode: str, is_cut: bool, most: int = MOST_LOGPS, has_mask: bool = False
) -> Asking:
    """Say what to ask for, by the sampling parameters of a generation.

    Args:
        mode: "colocate" or "server".
        is_cut: whether the tokens that were kept are to be returned.
        most: how many of the likeliest tokens the engine returns.
        has_mask: whether it returns a sampling mask.

    Raises:
        UsageError: it would refuse every request, because a mask needs `top_k`.
    """
    top_k = sampling.get("top_k") or 0
    if has_mask and top_k <= 0:
        raise UsageError(
            f"--top_k {top_k}: the vLLM server was started with --return-sampling-mask, which takes only "
            "requests with a top_k above 0; set one (512 leaves nearly everything), or start it without that option"
        )
    bias = BANNED_BIAS / (sampling["temperature"] or 1.0)
    if is_cut:
        everyone = [int(token) for token, value in sampling["logit_bias"].items() if value == BANNED_BIAS]
        if has_mask:
            return Asking(options={}, banned_ids=everyone, bias=bias, has_mask=True)
        number = min(top_k + TIES, most) if top_k > 0 else most
        return Asking(options={"logprobs": number}, banned_ids=everyone, bias=bias, number=number)
    banned_ids = banned_in(sampling["logit_bias"], most=MOST_TOLD[mode])
    asked = [*banned_ids, *banned_ids[:1]] if mode == "server" else banned_ids
    # Of n tokens and the sampled one a server returns n, so that it is asked for one of them twice.
    options = {ASKED_LOGPS: asked, "logprobs": len(asked)} if asked else {}
    return Asking(options=options, banned_ids=banned_ids, bias=bias)


def _token(told: Mapping[str, Any]) -> int:
    """The token that a log-probability is of: vLLM 0.31 names it ``token_id:7`` in ``token``, 0.32 has ``token_id``."""
    return int(told["token_id"]) if "token_id" in told else int(told["token"].removeprefix("token_id:"))


def _told(logprob: float | None) -> float | None:
    return None if logprob is None or logprob <= UNTOLD else logprob


def _or_nan(logp: float | None) -> float:
    return math.nan if logp is None else logp
