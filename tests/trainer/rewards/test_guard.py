import asyncio
import inspect
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from triptych_trainer.rewards import RewardError, accuracy_reward, guarded
from triptych_trainer.rewards.loading import load_reward

COLUMNS = {
    "example_id": ["a", "b"],
    "source": ["d.jsonl:1", "d.jsonl:2"],
    "prompts": ["p"] * 2,
    "completion_ids": [[1]] * 2,
}


def brittle(completions, **columns):
    return [1.0 / len(text) for text in completions]


async def brittle_later(completions, **columns):
    await asyncio.sleep(0)
    return brittle(completions)


def test_a_good_reward_passes_through_with_its_name():
    assert guarded(brittle)(completions=["ab", "a"], **COLUMNS) == [0.5, 1.0]
    assert guarded(brittle).__name__ == "brittle"
    assert guarded(accuracy_reward())(completions=["x", "y"], answer=["x", "x"], **COLUMNS) == [1.0, 0.0]


def test_an_exception_names_function_sample_and_completion():
    expected = (
        r"reward 'brittle' raised ZeroDivisionError: .* on sample b \(d.jsonl:2\), completion 1 of 2: ''; "
        "a reward must return a number for any completion"
    )
    with pytest.raises(RewardError, match=expected) as caught:
        guarded(brittle)(completions=["ab", ""], **COLUMNS)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_async_reward_stays_async_and_is_guarded():
    reward = guarded(brittle_later)
    assert inspect.iscoroutinefunction(reward)
    assert asyncio.run(reward(completions=["ab", "a"], **COLUMNS)) == [0.5, 1.0]
    with pytest.raises(RewardError, match=r"'brittle_later' raised ZeroDivisionError: .* on sample b"):
        asyncio.run(reward(completions=["ab", ""], **COLUMNS))


def test_an_exception_that_no_single_row_repeats_names_the_batch():
    def alone(completions, **columns):
        if len(completions) > 1:
            raise KeyError("shared")
        return [0.0]

    with pytest.raises(RewardError, match="on a batch of 2 completions, on none of them alone"):
        guarded(alone)(completions=["x", "y"], **COLUMNS)

    async def alone_later(completions, **columns):
        return alone(completions)

    with pytest.raises(RewardError, match="on a batch of 2 completions, on none of them alone"):
        asyncio.run(guarded(alone_later)(completions=["x", "y"], **COLUMNS))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0], "returned 1 values; expected a list of 2"),
        (1.0, "returned float; expected a list of 2"),
        ([1.0, float("nan")], "returned nan on sample b .* expected a finite number, or None .*: correct the function"),
        (["good", 1.0], "returned 'good' on sample a"),
        (b"ab", "returned bytes; expected a list of 2"),
        ([0.0, 1e39], r"returned 1e\+39 on sample b .* expected a finite number of at most 1e\+18, or None"),
        ([1.0, float("-inf")], r"returned -inf on sample b \(d.jsonl:2\), completion 1 of 2: 'y'; expected a finite"),
        (
            [10**400, 1.0],
            r"returned 10{199}\.\.\. \(401 characters\) on sample a \(d.jsonl:1\), completion 0 of 2: 'x'",
        ),
        ([1.0, -(10**5000)], r"returned an integer of 16610 bits on sample b"),
        ([1.0, Fraction(10**400, 3)], r"returned Fraction\(10+\.\.\. \(\d+ characters\) on sample b"),
    ],
)
def test_unusable_results_are_named(scores, message):
    with pytest.raises(RewardError, match=message):
        guarded(lambda **_: scores)(completions=["x", "y"], **COLUMNS)


@pytest.mark.parametrize("leave", [SystemExit(0), SystemExit("done"), SystemExit()])
def test_a_function_that_ends_the_program_is_named_and_does_not_end_it(leave):
    """The run would end with exit code 0 and without a model."""

    def leaving(completions, **columns):
        if "y" in completions:
            raise leave
        return [1.0] * len(completions)

    async def leaving_later(completions, **columns):
        return leaving(completions)

    expected = r"'leaving(_later)?' raised SystemExit: .* on sample b \(d.jsonl:2\), completion 1 of 2: 'y'"
    with pytest.raises(RewardError, match=expected):
        guarded(leaving)(completions=["x", "y"], **COLUMNS)
    with pytest.raises(RewardError, match=expected):
        asyncio.run(guarded(leaving_later)(completions=["x", "y"], **COLUMNS))


def test_ctrl_c_in_a_reward_is_the_users_and_ends_the_run():
    def interrupted(completions, **columns):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(interrupted)(completions=["x", "y"], **COLUMNS)


def test_none_and_tensors_are_results():
    torch = pytest.importorskip("torch")
    assert guarded(lambda **_: [None, True])(completions=["x", "y"], **COLUMNS) == [None, 1.0]
    assert guarded(lambda **_: torch.tensor([0.25, 1]))(completions=["x", "y"], **COLUMNS) == [0.25, 1.0]
    scalars = [torch.tensor(0.25, requires_grad=True), np.bool_(True)]  # TRL takes them, too
    assert guarded(lambda **_: scalars)(completions=["x", "y"], **COLUMNS) == [0.25, 1.0]


def test_an_object_with_call_keeps_its_class_name():
    class Scorer:
        def __call__(self, completions, **columns):
            return [0.0 for _ in completions]

    assert guarded(Scorer()).__name__ == "Scorer"


def test_a_long_completion_is_shown_by_its_start():
    with pytest.raises(RewardError, match=r"x{200}\.\.\. \(500 characters\)"):
        guarded(lambda **_: 1 / 0)(completions=["x" * 500])


def test_what_a_reward_takes_out_of_its_lists_the_next_one_still_gets():
    def taking(completions, answer, **_):
        scores = [float(len(answer)) for _ in completions]
        completions.clear()
        answer.pop()
        return scores

    rows = {"completions": ["a", "b"], "answer": ["x", "y"]}
    assert guarded(taking)(**rows) == guarded(taking)(**rows) == [2.0, 2.0]


def test_a_reward_that_takes_no_columns_is_told_to():
    def narrow(completions):
        return [1.0] * len(completions)

    with pytest.raises(RewardError, match=r"unexpected keyword argument 'answer'; .*: let it take \*\*kwargs"):
        guarded(narrow)(completions=["a"], answer=["x"])


def test_what_a_reward_writes_into_messages_and_values_the_next_one_does_not_see():
    def careless(completions, answer, **columns):
        for completion, accepted in zip(completions, answer, strict=True):
            completion[0]["content"] = "changed"
            accepted.clear()
        return [0.0] * len(completions)

    completions, answer = [[{"role": "assistant", "content": "red"}]], [["red"]]
    guarded(careless)(completions=completions, answer=answer, example_id=["a"])
    assert (completions, answer) == ([[{"role": "assistant", "content": "red"}]], [["red"]])


def test_a_column_that_the_rows_do_not_have_is_named():
    def needs(completions, target, *, hint, **columns):
        return [0.0] * len(completions)

    message = (
        r"reward 'needs' expects a column for each of its parameters, got none for 'target' on sample a \(d.jsonl:1\), "
        r"completion 0 of 2: 'x' \(columns: completion_ids, example_id, prompts, source\); add it to the data"
    )
    with pytest.raises(RewardError, match=message):
        guarded(needs)(completions=["x", "y"], **COLUMNS)


def set_dtype():
    torch.set_default_dtype(torch.float64)


def set_device():
    torch.set_default_device("meta")


def set_gradients():
    torch.set_grad_enabled(False)


def set_warnings():
    warnings.simplefilter("error", ImportWarning)


def set_threads():
    torch.set_num_threads(torch.get_num_threads() + 1)


def set_deterministic():
    torch.use_deterministic_algorithms(True)


def set_precision():
    torch.set_float32_matmul_precision("medium")


SETTINGS = {
    set_threads: "torch's number of threads from .* to [0-9]+",
    set_deterministic: "torch's choice of deterministic algorithms from False to True",
    set_precision: "torch's precision of float32 products from highest to medium",
    set_dtype: "torch's default dtype from torch.float32 to torch.float64",
    set_device: "torch's default device from cpu to meta",
    set_gradients: "torch's switch for gradients from True to False",
    set_warnings: "the warnings that are errors from .* to .*ImportWarning.*",
}


@pytest.mark.parametrize(
    ("change", "is_async"), [*((change, False) for change in SETTINGS), (set_dtype, True), (set_warnings, True)]
)
def test_a_setting_of_the_process_that_a_reward_changes_is_named(change, is_async):
    """With another default dtype the run went on, and trained other weights."""

    def reward(completions, **columns):
        change()
        return [0.0] * len(completions)

    async def later(completions, **columns):
        return reward(completions)

    call = guarded(later if is_async else reward)
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings(), pytest.raises(RewardError, match=f"changed {SETTINGS[change]} for the whole"):
            asyncio.run(call(completions=["a"])) if is_async else call(completions=["a"])
    finally:
        torch.set_default_dtype(torch.float32), torch.set_default_device(None), torch.set_grad_enabled(True)
        torch.set_num_threads(threads), torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision("highest")


def test_what_a_reward_changes_for_its_own_lines_is_its_own():
    def reward(completions, **columns):
        with torch.no_grad(), torch.device("meta"), warnings.catch_warnings(action="error", category=ImportWarning):
            return [0.0] * len(completions)

    assert guarded(reward)(completions=["a"]) == [0.0]


def test_coroutines_that_run_side_by_side_do_not_answer_for_each_other():
    """TRL awaits them in one thread, which trains nothing."""

    async def short(completions, **columns):
        await asyncio.sleep(0.01)
        return [0.0] * len(completions)

    async def holding(completions, **columns):
        with torch.no_grad(), torch.device("meta"):
            await asyncio.sleep(0.02)
        return [1.0] * len(completions)

    async def both():
        return await asyncio.gather(*(guarded(one)(completions=["a"]) for one in (short, holding)))

    assert asyncio.run(both()) == [[0.0], [1.0]]


def test_a_file_that_changes_a_setting_when_it_is_loaded_is_refused(tmp_path):
    (tmp_path / "own.py").write_text(
        "import warnings\nwarnings.simplefilter('error', ImportWarning)\ndef own(completions, **_): return [0.0]\n"
    )
    with warnings.catch_warnings(), pytest.raises(ValueError, match=r"loading .*own.py changed the warnings that are"):
        load_reward(f"{tmp_path / 'own.py'}:own")
