"""The difference between what sampled and what is trained: its estimate, its groups and its likely causes, by value."""

import math

import pytest
from triptych_trainer.grpo.mismatch import Mismatch, likely_causes, merged, metrics

TEXT, IMAGES = Mismatch(num_tokens=2, total=0.002, largest=0.0015), Mismatch(num_tokens=8, total=0.8, largest=0.4)


def test_metrics_are_means_over_tokens():
    found = metrics({0: TEXT, 1: IMAGES, 3: Mismatch(num_tokens=2, total=0.02, largest=0.01)})
    assert found == pytest.approx(
        {
            "sampling/mismatch_kl": 0.822 / 12,
            "sampling/mismatch_kl/max": 0.4,
            "sampling/mismatch_kl/images_0": 0.001,
            "sampling/mismatch_kl/images_1": 0.1,
            "sampling/mismatch_kl/images_3": 0.01,
            "sampling/mismatch_kl/with_images": 0.082,
            "sampling/mismatch_kl/without_images": 0.001,
        }
    )


def test_ranks_are_put_together_by_the_number_of_images():
    other_rank = [(3, TEXT), (0, TEXT)]
    found = merged({0: IMAGES}, gather_object=lambda own: own + other_rank)
    assert list(found) == [0, 3]
    assert found[0] == Mismatch(num_tokens=10, total=0.802, largest=0.4)


@pytest.mark.parametrize(
    ("found", "options", "first"),
    [
        ({0: TEXT, 2: IMAGES}, {}, "prompts without images agree"),
        (
            {0: IMAGES, 2: IMAGES},
            {"other_probabilities": ["--top_p 0.9"]},
            "--top_p 0.9 let the engine sample from other",
        ),
        ({0: IMAGES, 2: IMAGES}, {"adapter_dropout": 0.05}, "--lora_dropout 0.05 is active"),
        ({2: IMAGES}, {}, "the engine computes in another precision"),
    ],
)
def test_the_likeliest_cause_comes_first(found, options, first):
    given = {"tower_trains": False, "adapter_dropout": 0.0, "other_probabilities": (), **options}
    assert likely_causes(found, **given)[0].startswith(first)


def test_images_stay_a_cause_where_no_prompt_is_without_them():
    causes = likely_causes({2: IMAGES}, tower_trains=True, adapter_dropout=0.0, other_probabilities=())
    assert causes[1].startswith("no prompt is without images, so the engine may see other images")
    assert "forgets its image features" in causes[1]


def test_a_trained_tower_points_at_kept_features():
    (cause,) = likely_causes({0: TEXT, 2: IMAGES}, tower_trains=True, adapter_dropout=0.0, other_probabilities=())
    assert "forgets its image features" in cause
    assert not math.isnan(Mismatch().mean)
