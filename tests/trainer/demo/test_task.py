"""The demo's samples: determinism, answers that follow from the places, and the exact worth of the places."""

from collections import Counter

import pytest
from PIL import ImageChops
from triptych_trainer.commands.train import main
from triptych_trainer.demo import CHANCE
from triptych_trainer.demo.behaviour import bare, careful, hasty
from triptych_trainer.demo.pictures import draw_picture
from triptych_trainer.demo.task import MARKER, ORDINALS, QUESTION_KINDS, make_sample, place_markers
from triptych_trainer.rewards import accuracy_reward, format_reward

NUM_SAMPLES = 300
GOLDEN = [
    ("After : <image> . Before : <image> . Which colour was it after ?", ("red", "purple"), "red"),
    ("Shelf B : <image> . Shelf A : <image> . Shelf C : . Which shelf holds red ?", ("yellow", "red"), "A"),
    ("Look at <image> , <image> , <image> . Which one is blue ?", ("blue", "yellow", "red"), "first"),
]


def samples_of(kind, *, num_samples=NUM_SAMPLES):
    first = QUESTION_KINDS.index(kind)
    return [make_sample(first + 3 * k, seed=0, split="train") for k in range(num_samples)]


def read_answer(sample):
    """Answer a question by reading where its markers stand, independently of how it was made."""
    words = sample.question.split()
    labels, label, seen = [], None, 0
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if after == ":":
            label = word
        if word == MARKER:
            labels.append(label or ORDINALS[seen])
            seen += 1
    asked = words[-2]
    if sample.kind == "before":
        return dict(zip((label.lower() for label in labels), sample.colours, strict=True))[asked]
    return dict(zip(sample.colours, labels, strict=True))[asked]


@pytest.mark.parametrize("kind", QUESTION_KINDS)
def test_the_answer_is_what_the_places_say(kind):
    for sample in samples_of(kind):
        assert sample.answer == read_answer(sample), sample
        assert sample.question.split().count(MARKER) == len(sample.pictures)


def test_a_sample_is_a_function_of_seed_split_and_index():
    sample = make_sample(7, seed=0, split="train")
    assert sample == make_sample(7, seed=0, split="train")
    others = [make_sample(7, seed=1, split="train"), make_sample(7, seed=0, split="heldout")]
    assert all(sample.pictures != other.pictures for other in others)


def test_golden_samples():
    assert [
        (sample.question, sample.colours, sample.answer)
        for sample in (make_sample(index, seed=0, split="golden") for index in range(3))
    ] == GOLDEN


def test_pictures_differ_and_show_their_colour():
    images = [image for index in range(60) for image in make_sample(index, seed=0, split="train").images()]
    assert {image.size for image in images} == {(56, 56)}
    assert {image.mode for image in images} == {"RGB"}
    assert len({image.tobytes() for image in images}) == len(images)
    picture = make_sample(0, seed=0, split="train").pictures[0]
    assert draw_picture(picture).getpixel(picture.centre) == picture.paint
    assert ImageChops.difference(draw_picture(picture), draw_picture(picture)).getbbox() is None


def test_moving_the_markers_keeps_words_and_pictures():
    for index in range(60):
        sample = make_sample(index, seed=0, split="train")
        moved = sample.prompt(placement="first").split()
        assert moved[: len(sample.pictures)] == [MARKER] * len(sample.pictures)
        assert [word for word in moved if word != MARKER] == [w for w in sample.question.split() if w != MARKER]


def test_unknown_placement_is_refused():
    with pytest.raises(ValueError, match=r"expected one of \('in_place', 'first'\), got 'last'"):
        place_markers("<image> a", placement="last")


def test_with_images_first_the_shelf_cannot_be_told():
    """Rank of the asked picture and number of pictures, all that is left to see, do not shift the shelf's odds."""
    seen = Counter()
    for sample in samples_of("shelf", num_samples=6000):
        asked = sample.question.split()[-2]
        names = [
            word
            for word, before in zip(sample.question.split()[1:], sample.question.split(), strict=False)
            if before == "Shelf"
        ]
        seen[sample.colours.index(asked), len(sample.pictures), names.index(sample.answer)] += 1
    for rank, count in {(rank, count) for rank, count, _ in seen}:
        places = [seen[rank, count, place] for place in range(3)]
        shares = [number / sum(places) for number in places]
        assert shares == pytest.approx([CHANCE["shelf"]] * 3, abs=0.06), (rank, count, shares)


@pytest.mark.slow_except("before-*")
@pytest.mark.parametrize(("kind", "share"), [("before", 1 / 2), ("shelf", 11 / 18), ("which", 1 / 3)])
def test_a_hasty_completion_is_right_by_luck_alone(kind, share):
    samples = samples_of(kind, num_samples=3000)
    right = accuracy_reward()([hasty(sample) for sample in samples], answer=[sample.answer for sample in samples])
    assert sum(right) / len(right) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("behaviour", "accuracy", "layout"), [(careful, [1.0] * 3, [1.0] * 3), (bare, [0.0, 1.0, 0.0], [0.0] * 3)]
)
def test_rewards_of_the_behaviours(behaviour, accuracy, layout):
    samples = [make_sample(index, seed=0, split="golden") for index in (1, 2, 5)]
    completions = [behaviour(sample) for sample in samples]
    assert accuracy_reward()(completions, answer=[sample.answer for sample in samples]) == accuracy
    assert format_reward()(completions) == layout


@pytest.mark.parametrize("option", ["--tools", "--environment"])
def test_the_demo_refuses_what_it_would_not_use(option, tmp_path, capsys):
    assert main([option, "own.py:name", "--output_dir", str(tmp_path / "out")]) == 2
    assert f"{option}: the built-in demo has no use for it; give a model and data with it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
