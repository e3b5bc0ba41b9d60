"""The reward `repetition`: a penalty for saying the same thing again."""

import re

from triptych_trainer.rewards.row import Reward, Row, row_reward

# Scripts written without spaces count each character as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]+")


def repetition_reward(*, ngram: int = 4, worst: float = -1.0) -> Reward:
    """Build the penalty: `worst` times the share of n-grams of words that occurred before; 0.0 for short texts."""
    if ngram < 1 or worst > 0:
        raise ValueError(f"expected ngram >= 1 and worst <= 0, got ngram={ngram}, worst={worst}")

    def repetition(row: Row) -> float:
        return worst * repeated_share(row.text, ngram=ngram)

    return row_reward(repetition)


def repeated_share(text: str, *, ngram: int) -> float:
    """Return the share, 0 to 1, of n-grams of words that occurred before in the text, without case."""
    words = _WORD.findall(text.casefold())
    grams = [tuple(words[k : k + ngram]) for k in range(len(words) - ngram + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
