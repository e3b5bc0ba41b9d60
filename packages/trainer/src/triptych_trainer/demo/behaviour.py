"""How a completion may answer: carefully, hastily, or without a thought. The warm-up shows all three."""

from .task import Sample


def careful(sample: Sample) -> str:
    """Name picture after picture until the asked one is found, then answer."""
    keys = [key for _, key in sample.facts]
    return _completion(sample, num_looked_at=keys.index(sample.asked) + 1)


def hasty(sample: Sample) -> str:
    """Look at the first picture only and answer with it: in the right format, and right by luck alone."""
    return _completion(sample, num_looked_at=1)


def bare(sample: Sample) -> str:
    """Answer with the first picture and leave the tags out: wrong format, and right by luck alone."""
    return f" {sample.facts[0][0]}"


def _completion(sample: Sample, *, num_looked_at: int) -> str:
    seen = sample.facts[:num_looked_at]
    thought = "".join(f" {value} {key}" for value, key in seen)
    return f"<think>{thought}</think><answer> {seen[-1][0]}</answer>"
