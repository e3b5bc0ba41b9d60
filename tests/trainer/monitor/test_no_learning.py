"""What has stood still for too many steps is found, with the likely root first, and said once."""

from math import isnan, nan

import pytest
from triptych_trainer.monitor.no_learning import Generation, Standstill, in_words
from triptych_trainer.monitor.weight_change import Update


def generation(scores, *, cut=0.0, same=False, example="It is red."):
    """Two groups of two completions."""
    known = [[column[k] for column in scores.values() if not isnan(column[k])] for k in range(4)]
    totals = [sum(values) if values else nan for values in known]
    return Generation(scores=scores, totals=totals, keys=[0, 0, 1, 1], cut_share=cut, same_texts=same, example=example)


VARIED = {"accuracy": [0.0, 1.0, 1.0, 0.0]}


def found_after(watch, generations, *, norms=None):
    """The kinds that are found after each step."""
    found = []
    for step, one in enumerate(generations):
        watch.see(one, step=step)
        if norms:
            watch.see_gradient(norms[step], step=step + 1)
        found.append([finding.kind for finding in watch.findings(step + 1)])
    return found


@pytest.mark.parametrize(
    ("one", "norm", "kinds"),
    [
        (generation(VARIED), 1.0, []),
        (generation(VARIED), 0.0, ["gradient"]),
        (generation(VARIED, cut=1.0), 1.0, ["cut"]),
        (generation(VARIED, cut=0.99), 1.0, []),
        (generation({**VARIED, "format": [0.0] * 4}), 1.0, ["constant format"]),
        (generation({**VARIED, "format": [1.0, nan, 1.0, nan]}), 1.0, ["constant format"]),
        (generation({**VARIED, "judge": [nan] * 4}), 1.0, ["unscored judge"]),
        (generation({"accuracy": [0.0, 0.0, 1.0, 1.0]}), 0.0, ["dead", "gradient"]),
        (generation({"accuracy": [0.0] * 4}, cut=1.0), 0.0, ["cut", "constant accuracy", "dead", "gradient"]),
        (generation({"judge": [nan] * 4}), 0.0, ["unscored judge", "dead", "gradient"]),
    ],
)
def test_what_stands_still_is_found_at_the_last_step_and_once(one, norm, kinds):
    watch = Standstill(num_steps=3)
    assert found_after(watch, [one] * 5, norms=[norm] * 5) == [[], [], kinds, [], []]


def test_one_step_that_moves_begins_the_count_again():
    dead, alive = generation({"accuracy": [0.0, 0.0, 1.0, 1.0]}), generation(VARIED)
    watch = Standstill(num_steps=3)
    assert found_after(watch, [dead, dead, alive, dead, dead, dead]) == [[], [], [], [], [], ["dead"]]
    watch = Standstill(num_steps=3)
    found = found_after(watch, [alive] * 6, norms=[0.0, 0.0, 0.1, 0.0, 0.0, 0.0])
    assert found == [[], [], [], [], [], ["gradient"]]


def test_a_reward_that_was_learned_is_no_finding():
    zeros, ones = (generation({**VARIED, "format": [value] * 4}) for value in (0.0, 1.0))
    assert found_after(Standstill(num_steps=3), [zeros, *[ones] * 6]) == [[]] * 7


def test_a_run_that_is_gone_on_with_knows_which_rewards_varied():
    watch = Standstill(num_steps=2)
    watch.learn_from_log(
        [
            {
                "rewards/format/mean": 0.5,
                "rewards/format/std": 0.5,
                "rewards/length/mean": 0.0,
                "rewards/length/std": 0.0,
            },
            {
                "rewards/format/mean": 1.0,
                "rewards/format/std": 0.0,
                "rewards/length/mean": 0.0,
                "rewards/length/std": 0.0,
            },
        ]
    )
    one = generation({**VARIED, "format": [1.0] * 4, "length": [0.0] * 4})
    assert found_after(watch, [one] * 2) == [[], ["constant length"]]


@pytest.mark.parametrize(
    ("num_weights", "num_changed", "dtype", "parts"),
    [
        (
            1000,
            0,
            "float32",
            ["an update changed 0 of 1,000 weights", "the learning rate 1e-30 is too small for these"],
        ),
        (
            1000,
            49,
            "bfloat16",
            ["an update changed 49 of 1,000", "in bfloat16 are rounded: leave out --dtype, so that"],
        ),
        (1000, 51, "bfloat16", []),
        (31, 0, "float32", []),
    ],
)
def test_an_update_that_changes_hardly_a_weight_is_found(num_weights, num_changed, dtype, parts):
    watch = Standstill(num_steps=2)
    for step in range(2):
        watch.see(generation(VARIED), step=step)
        watch.see_gradient(1.0, step=step + 1)
    update = Update(num_weights=num_weights, num_changed=num_changed, dtype=dtype, learning_rate=1e-30)
    watch.see_update(update, step=2)
    found = watch.findings(2)
    assert [finding.kind for finding in found] == ["weights"] * bool(parts)
    if parts:
        text = in_words(found, step=2, num_steps=2)
        assert text.startswith(f"in the steps 1 to 2 {parts[0]}")
        assert f"looked at: the run does not learn. Likely cause: {'' if dtype == 'float32' else 'updates at '}" in text
        assert parts[1] in text
        assert not watch.findings(3), "once"


def test_cut_completions_alone_may_still_teach_something():
    text = said(generation(VARIED, cut=1.0), max_completion_tokens=64)
    assert "cut at the limit of 64 tokens: what is rewarded is the beginning of an answer. Likely cause: no" in text


def test_zero_steps_never_finds_anything():
    assert found_after(Standstill(num_steps=0), [generation({"accuracy": [0.0] * 4}, cut=1.0)] * 3) == [[]] * 3


def said(one, *, norm=1.0, **options):
    watch = Standstill(num_steps=2, **options)
    for step in range(2):
        watch.see(one, step=step)
        watch.see_gradient(norm, step=step + 1)
    return in_words(watch.findings(2), step=2, num_steps=2)


@pytest.mark.parametrize(
    ("one", "options", "parts"),
    [
        (
            generation({"accuracy": [0.0] * 4}, cut=1.0),
            {"max_completion_tokens": 64, "mask_truncated": True},
            [
                "in the steps 1 to 2 every completion was cut at the limit of 64 tokens; reward accuracy was 0 for",
                "; in every group all completions earned the same reward: the run does not learn. Likely cause: no",
                "answer gets finished: raise --max_completion_length",
                "With --mask_truncated_completions the loss then counts no token",
            ],
        ),
        (
            generation({**VARIED, "format": [0.0] * 4}, example="It is\x1b[2J red."),
            {},
            [
                "reward format was 0 for every completion: there is nothing to learn from it. Likely cause: the prompt "
                "does not ask for <think>…</think><answer>…</answer>",
                r"(one of the completions: 'It is\x1b[2J red.')",
            ],
        ),
        (
            generation({**VARIED, "mine": [2.5] * 4}),
            {},
            ["every completion earns mine already: leave it out of --reward"],
        ),
        (
            generation({**VARIED, "mine": [0.0] * 4}),
            {},
            ["the task is too hard for this model, or mine cannot read what"],
        ),
        (generation({**VARIED, "mine": [nan] * 4}), {}, ["a column that mine needs is missing or empty in every row"]),
        (
            generation({"mine": [0, 0, 1, 1]}, same=True),
            {},
            ["all completions were the same text", "raise --temperature"],
        ),
        (
            generation({"mine": [0, 0, 1, 1]}),
            {},
            ["all completions earned the same reward", "all too easy or all too hard"],
        ),
    ],
)
def test_the_warning_names_what_stands_still_and_the_likely_cause(one, options, parts):
    text = said(one, **options)
    assert [part for part in parts if part not in text] == [], text


def test_a_gradient_of_zero_alone_points_at_what_is_trained():
    assert (
        "the norm of the gradient was 0: the run does not learn. Likely cause: nothing that is trained takes part"
        in (said(generation(VARIED), norm=0.0))
    )
