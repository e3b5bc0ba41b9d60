"""The batch side: TRL's keyword arguments in, one float per completion out."""

import pytest
from triptych_trainer.rewards import ImageInfo, Row, accuracy_reward, format_reward, load_reward, row_reward

RIGHT = "<think>one, two</think><answer>second</answer>"


def talk(text):
    return [{"role": "assistant", "content": text}]


def test_accuracy_scores_plain_and_conversational_completions():
    reward = accuracy_reward()
    arguments = {
        "prompts": ["p"] * 3,
        "completion_ids": [[1]] * 3,
        "trainer_state": object(),
        "example_id": list("abc"),
    }
    assert reward(completions=[RIGHT, "first", "<answer>"], answer=["second"] * 3, **arguments) == [1.0, 0.0, 0.0]
    assert reward(completions=[talk(RIGHT)] * 3, answer=["second", "first", "Second."], **arguments) == [1.0, 0.0, 1.0]


def test_accuracy_reads_the_answer_of_vlm_r1_solutions():
    assert accuracy_reward()(["3"], answer=["<answer> 3 </answer>"]) == [1.0]


def test_accuracy_without_an_answer_names_the_sample():
    with pytest.raises(ValueError, match=r"sample s7 \(train.jsonl:12\): .*column 'answer', which is empty"):
        accuracy_reward()(["x"], answer=[None], example_id=["s7"], source=["train.jsonl:12"])


def test_accuracy_modes_differ():
    assert accuracy_reward(mode="exact")(["3.0"], answer=["3"]) == [0.0]
    assert accuracy_reward(mode="numeric")(["3.0"], answer=["3"]) == [1.0]
    with pytest.raises(ValueError, match=r"unknown accuracy method 'fuzzy'; known methods: auto, exact"):
        accuracy_reward(mode="fuzzy")


def test_format_scores_the_layout_only():
    assert format_reward()([RIGHT, "second", talk(RIGHT), ""]) == [1.0, 0.0, 1.0, 0.0]


def test_names_are_what_logs_show():
    assert [load_reward(name).__name__ for name in ("accuracy", "format")] == ["accuracy", "format"]


def test_a_row_carries_everything_the_dataset_has():
    image = ImageInfo(index=1, name="after", annotation="the screen after", width=56, height=28)
    seen: list[Row] = []

    @row_reward
    def keep(row: Row) -> float:
        seen.append(row)
        return 0.5

    values = keep(
        prompts=["p"],
        completions=[talk("hi")],
        completion_ids=[[7, 8]],
        answer=["a"],
        images=[(image,)],
        example_id=["e1"],
        source=["f:1"],
        level=["hard"],
        trainer_state=object(),
        log_metric=print,
    )
    (row,) = seen
    assert values == [0.5]
    assert keep.__name__ == "keep"
    assert (row.text, row.answer, row.images, row.example_id, row.source) == ("hi", "a", (image,), "e1", "f:1")
    assert (row.completion_ids, row.prompt, dict(row.extras)) == ([7, 8], "p", {"level": "hard"})
    assert image.number == 2
