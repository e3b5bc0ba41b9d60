"""Several weighted sources: shares kept, nothing repeated, the same on every machine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from triptych_data import ImageLoader, Loader, Mixture, read_examples


@pytest.fixture
def sources(write_jsonl):
    return [
        read_examples(write_jsonl([{"prompt": f"{name} {index}"} for index in range(count)], name=f"{name}.jsonl"))
        for name, count in (("a", 100), ("b", 30))
    ]


def names(examples) -> list[str]:
    return [Path(example.source).name for example in examples]


def test_weights_set_the_shares_of_an_epoch(sources):
    mixture = Mixture(sources, weights=[1, 1])
    assert mixture.counts == (30, 30)
    assert len(set(names(mixture))) == len(mixture) == 60
    assert Counter(name[0] for name in names(mixture)) == {"a": 30, "b": 30}
    assert Mixture(sources).counts == (100, 30)
    assert Mixture(sources, weights=[3, 1]).counts == (90, 30)


def test_a_larger_source_gives_its_next_part_in_the_next_epoch(sources):
    mixture = Mixture(sources, weights=[1, 1])
    epochs = [[mixture.in_epoch(index, epoch=epoch).source for index in range(60)] for epoch in range(4)]
    first_source = [name for epoch in epochs[:3] for name in epoch if "a.jsonl" in name]
    assert len(set(first_source)) == 90
    for epoch in epochs:
        assert len({name for name in epoch if "b.jsonl" in name}) == 30


def test_the_loader_walks_the_epochs_of_a_mixture_and_resumes(sources):
    def walk(steps: int, state=None) -> tuple[list[str], dict]:
        with ImageLoader() as images:
            loader = Loader(Mixture(sources, weights=[1, 1]), images=images, prompts_per_step=10, seed=3)
            if state is not None:
                loader.load_state_dict(state)
            iterator = iter(loader)
            found = [prompt.example.source for _ in range(steps) for prompt in next(iterator)]
            return found, loader.state_dict()

    expected, _ = walk(18)
    assert len({name for name in expected if "a.jsonl" in name}) == 90
    head, state = walk(7)
    assert head + walk(11, state)[0] == expected


def test_slices_indexes_and_the_end(sources):
    mixture = Mixture(sources, weights=[1, 1], seed=4)
    assert names(mixture[-2:]) == names([mixture[58], mixture[-1]])
    with pytest.raises(IndexError):
        mixture[60]
    with pytest.raises(ValueError, match="one positive weight per non-empty source"):
        Mixture(sources, weights=[1])
    assert mixture.fingerprint != Mixture(sources, weights=[2, 1]).fingerprint
