"""Image tokens are never sampled, and the ban is taken out of the log-probabilities again."""

import math
from collections.abc import Mapping, Sequence

__all__ = ["ASKED_LOGPS", "BANNED_BIAS", "MOST_LOGPS", "MOST_TOLD", "banned_in", "unbanned"]

BANNED_BIAS = -100.0
"""vLLM's lowest logit bias: a probability of e^-100."""
ASKED_LOGPS = "logprob_token_ids"
"""The sampling parameter that asks vLLM for the log-probabilities of some tokens in addition to the sampled one."""
MOST_LOGPS = 20
"""How many of them vLLM returns by default."""
MOST_TOLD = {"colocate": MOST_LOGPS, "server": MOST_LOGPS - 1}
"""How many banned tokens an engine returns; a server counts the sampled one as well."""


def banned_in(bias: Mapping[int, float], *, most: int = MOST_TOLD["colocate"]) -> list[int]:
    """Return the tokens that a logit bias bans, if vLLM can return all of them, which are at most ``most``, and no
    tokens otherwise.
    """
    found = [int(token) for token, value in bias.items() if value == BANNED_BIAS]
    return found if len(found) <= most else []


def unbanned(logp: float, told: Mapping[int, float | None], *, banned_ids: Sequence[int], bias: float) -> float:
    """Return the log-probability that a token would have without the ban: over all tokens, as the trainer scores it.

    With z the logits that vLLM drew from and Z their normaliser without the banned tokens, vLLM says
    ``z_b + bias - log Z`` of a banned token b, so that all tokens together have ``Z (1 + sum_b exp(z_b - log Z))``.
    If vLLM does not return them, its log-probability is used unchanged.
    """
    banned = [value for token in banned_ids if (value := told.get(token)) is not None]
    return logp - math.log1p(sum(math.exp(min(value - bias, 80.0)) for value in banned))
