"""The batch side: TRL's keyword arguments in, one float per completion out."""

import copy
import pickle

import pytest
from PIL import Image
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


def test_format_counts_what_the_prompts_end_opened():
    reward, rest = format_reward(), "one, two</think><answer>second</answer>"
    assert reward([rest] * 2, prompt_end=["assistant\n<think>\n", "assistant\n"]) == [1.0, 0.0]
    assert reward([talk(rest)] * 2, prompts=["Which?\n<think>", "Which?"]) == [1.0, 0.0]
    assert reward([RIGHT, talk(RIGHT)], prompt_end=["<think>"] * 2) == [0.0, 0.0]
    parsed = [{"role": "assistant", "content": "<answer>second</answer>", "reasoning_content": "one, two"}]
    assert reward([parsed], prompt_end=["<think>\n"]) == [1.0]


def test_format_takes_a_closed_block_as_opened_where_the_prompt_is_not_known():
    assert format_reward()(["one, two</think><answer>second</answer>", "<answer>second</answer>"]) == [1.0, 0.0]


def test_reasoning_cut_off_is_no_answer_where_the_prompt_opened_it():
    assert accuracy_reward()(["it is 3"] * 2, answer=["3"] * 2, prompt_end=["<think>\n", ""]) == [0.0, 1.0]


def test_rewards_read_the_infos_of_images_beside_a_column_of_their_own():
    image = ImageInfo(index=0, width=56, height=28)
    seen = row_reward(lambda row: float(row.images == (image,)))
    assert seen(["x"], images=[["a.png"]], image_infos=[[image]]) == [1.0]


def test_pixels_are_opened_on_demand_and_never_sent_to_another_process():
    asked = []

    def pixels(size):
        asked.append(size)
        return Image.new("RGB", (8, 4))

    info = ImageInfo(index=1, width=8, height=4, pixels=pixels)
    assert info.open().size == (8, 4)
    assert info.open("source").size == (8, 4)
    assert asked == ["seen", "source"]
    assert copy.deepcopy(info).open().size == (8, 4)
    sent = pickle.loads(pickle.dumps(info))
    assert sent == info
    with pytest.raises(ValueError, match="image 2 has no pixels here: .*open it before you send it to another process"):
        sent.open()
    with pytest.raises(ValueError, match="unknown size 'large' of image 2; known: seen, source"):
        info.open("large")


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
