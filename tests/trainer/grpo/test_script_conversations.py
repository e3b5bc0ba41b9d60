"""Conversations of TRL scripts: who speaks last, recorded calls, and texts that look like markers."""

import copy
from pathlib import Path

import pytest
import trl
from datasets import Dataset
from PIL import Image
from triptych_data import DataError, read_examples
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.prompts.dataset_table import DatasetTable
from trl import GRPOConfig, GRPOTrainer

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "left"}}}
OTHER = {"type": "function", "function": {"name": "turn", "arguments": {"by": 90}}}
MARKS = "What is <image> , <video> or a.png in html ?"


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def table(*prompts, **columns):
    return DatasetTable(Dataset.from_dict({"prompt": prompts, **columns}), name="train_dataset")


def test_in_data_without_images_texts_are_only_text():
    rows = table([user("a.png"), assistant("<image>"), user(MARKS)], [user("[IMG] <image:2>")], level=[1, 2])
    assert rows.example(0).prompt.pieces() == [["a.png"], ["<image>"], [MARKS]]
    assert rows.example(1).prompt.pieces() == [["[IMG] <image:2>"]]
    assert rows.prompt(0) == [user("a.png"), assistant("<image>"), user(MARKS)]


def test_in_data_with_images_a_marker_needs_its_image_and_a_backslash_makes_it_text():
    shown = Image.new("RGB", (56, 56))
    kept, lost, escaped = [user("Which <image> ?")], [user("Which <image> ?")], [user(r"Which \<image> ?")]
    rows = table(kept, lost, escaped, images=[[shown], [], []])
    assert rows.example(0).prompt.pieces() == [["Which ", 0, " ?"]]
    with pytest.raises(DataError, match=r"train_dataset\[1\]: .*marker 1 has no image .*write a backslash before"):
        rows.example(1)
    assert rows.example(2).prompt.pieces() == [["Which <image> ?"]]


def test_next_to_images_in_parts_texts_are_only_text():
    text, image = {"type": "text", "text": MARKS}, {"type": "image", "text": None}
    rows = table([{"role": "user", "content": [text, image]}], images=[[Image.new("RGB", (56, 56))]])
    assert rows.example(0).prompt.pieces() == [[MARKS, 0]]


def test_what_datasets_stores_as_json_is_read_as_it_was_written(tmp_path):
    """`map` stores content parts with different keys as JSON, and so does `on_mixed_types` with calls."""
    text, pictures = {"type": "text", "text": MARKS}, [Image.new("RGB", (56, 28 * k)) for k in (1, 2)]
    content = [{"type": "image"}, text, {"type": "image"}]
    data = Dataset.from_dict({"k": [0, 1], "images": [pictures[:1] * 2, pictures]})
    data = data.map(lambda row: {"prompt": [{"role": "user", "content": content}], "meta": [{"a": row["k"]}, {"b": 2}]})
    assert "Json" in str(data.features["prompt"])
    rows = DatasetTable(data, name="train_dataset")
    assert rows.example(1).prompt.pieces() == [[0, MARKS, 1]]
    assert rows.prompt(1) == [{"role": "user", "content": content}]
    assert rows.columns(1)["meta"] == data[1]["meta"] == [{"a": 1}, {"b": 2}]
    (example, _) = read_examples(data.save_to_disk(tmp_path / "saved") or tmp_path / "saved")
    assert example.prompt.pieces() == [[0, MARKS, 0]]
    prompts = [[user("Which ?"), assistant("", tool_calls=[call]), user("So ?")] for call in (CALL, OTHER)]
    data = Dataset.from_list([{"prompt": prompt} for prompt in prompts], on_mixed_types="use_json")
    calls = [
        table.example(k).prompt.messages()[1]["tool_calls"] for table in [DatasetTable(data, name="a")] for k in (0, 1)
    ]
    assert calls == [[CALL], [OTHER]]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([user("<|im_start|>user\nhi<|im_end|>")], r"a text that no chat template has written, got <\|im_start\|>"),
        ([user(" "), assistant("")], "expected a text or an image from the user, got neither in prompt"),
        ([{"role": "developer", "content": "hi"}], "of prompt.0. to be one of .*, got 'developer'; write system"),
        ([{**user("hi"), "context": "more"}], "to have only a role and its content, got 'context'"),
    ],
)
def test_what_would_become_another_prompt_is_refused(prompt, message):
    with pytest.raises(DataError, match=rf"train_dataset\[0\]: .*{message}"):
        table(prompt).example(0)


def test_images_without_a_turn_of_the_user_need_a_place():
    """They went into the message of the system, where TRL finds no place for them."""
    shown, text = [[Image.new("RGB", (56, 56))]], {"type": "text", "text": "Which ?"}
    alone = [{"role": "system", "content": "Which ?"}]
    with pytest.raises(DataError, match=r'expected a turn by the user, .* got none in prompt; add .*"image"}'):
        table(alone, images=shown).example(0)
    placed = [{"role": "system", "content": [{"type": "image", "text": None}, text]}]
    assert table(placed, images=shown).example(0).prompt.pieces() == [[0, "Which ?"]]


def test_a_turn_may_say_nothing_where_another_says_something_or_an_environment_gives_the_task():
    silent = [user(""), user("")]
    assert table([user("a"), user("")], images=[[]]).example(0).prompt.pieces() == [["a"], []]
    data = Dataset.from_dict({"prompt": [silent], "images": [[]]})
    for dataset in (data, data.remove_columns("images")):
        with pytest.raises(DataError, match="got neither in prompt; write the question"):
            DatasetTable(dataset, name="train_dataset").example(0)
        DatasetTable(dataset, name="train_dataset", needs_prompt=False).example(0)


@pytest.mark.slow
def test_three_steps_equal_those_of_stock_trl(model_dir, loaded, tmp_path):
    prompts = [
        [user(MARKS)],
        [user("Which ?"), assistant("The red"), user("Sure ?"), assistant("I look at")],
        [user("Which ?"), assistant("", tool_calls=[CALL]), {"role": "tool", "name": "look", "content": "a red cup"}],
        [assistant("Hello !"), user("https://example.com/a.mp4")],
        [{"role": "system", "content": "Which ?"}],
        [user("Which ?"), assistant("The red"), user("")],
    ]
    processor = copy.deepcopy(loaded[1])
    template = (TEMPLATES / "qwen3_vl.jinja").read_text(encoding="utf-8")
    processor.chat_template = processor.tokenizer.chat_template = template
    logged = []
    for trainer in (GRPOTrainer, MultiImageGRPOTrainer):
        seen = []

        def reward(prompts, completions, completion_ids, seen=seen, **columns):
            seen.extend(zip(prompts, completions, completion_ids, strict=True))
            return [float(sum(ids) % 5) for ids in completion_ids]

        own = {"num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 4, "max_steps": 3}
        args = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", logging_steps=1, **own)
        dataset = Dataset.from_list([{"prompt": prompt} for prompt in prompts])
        made = trainer(
            str(model_dir), reward, args=args, train_dataset=dataset, processing_class=copy.deepcopy(processor)
        )
        made.train()
        logged.append((seen, [line["grad_norm"] for line in made.state.log_history if "grad_norm" in line]))
    (expected, norms), (found, own_norms) = logged
    assert found == expected
    assert own_norms == pytest.approx(norms, rel=1e-3)


def test_a_dataset_without_a_prompt_is_told_of_the_column_prompt():
    rows = DatasetTable(Dataset.from_dict({"question_text": ["x"]}), name="train_dataset")
    with pytest.raises(DataError, match="expected a column prompt, got the columns question_text; add it") as caught:
        rows.example(0)
    assert "dataset_info" not in str(caught.value)
