"""What a run asks of its rows is asked once, and again whenever the answer could be another."""

import json

import pytest
from triptych_data import DataError
from triptych_data.errors import UsageError
from triptych_data.options import DataOptions
from triptych_data.prompt_settings import PromptSettings
from triptych_data.seen_headers import SeenHeaders
from triptych_trainer.commands.read_files import read_files
from triptych_trainer.models.load import load_processor
from triptych_trainer.prompts.expected import check_answer
from triptych_trainer.prompts.row_check import row_check_of
from triptych_trainer.rewards import load_reward
from triptych_trainer.rewards.row import row_reward

ACCURACY = {"accuracy": load_reward("accuracy")}


@pytest.fixture(scope="module")
def processor(model_dir):
    return load_processor(str(model_dir))


def test_a_judgement_is_known_by_everything_it_depends_on(model_dir, processor):
    def name(processor=processor, rewards=ACCURACY, **settings):
        return row_check_of(processor, PromptSettings(**settings), rewards=rewards).name

    other_template, added = load_processor(str(model_dir)), load_processor(str(model_dir))
    other_template.chat_template = other_template.tokenizer.chat_template = "{{ messages }}"
    added.tokenizer.add_tokens(["<new>"])
    names = [
        name(),
        name(rewards={}),
        name(rewards={"ordering": load_reward("ordering")}),
        name(max_prompt_tokens=50),
        name(chat_template_kwargs={"a": 1}),
        name(load_processor(str(model_dir), max_pixels=784)),
        name(other_template),
        name(added),
    ]
    assert None not in names
    assert len(set(names)) == len(names)
    assert name(load_processor(str(model_dir))) == names[0], "the same in the next run"
    assert name(rewards={**ACCURACY, "x.py:f": lambda completions, **_: [0.0] * len(completions)}) == names[0]


def test_a_template_without_a_beginning_of_the_answer_is_refused_at_the_start(model_dir):
    processor = load_processor(str(model_dir))
    for owner in (processor, processor.tokenizer):
        owner.chat_template = str(owner.chat_template).partition("{%- if add_generation_prompt")[0]
    with pytest.raises(UsageError, match="the chat template ignores add_generation_prompt: a prompt lacks the '<|im_"):
        row_check_of(processor, PromptSettings(), rewards={})


def test_a_template_that_leaves_images_out_is_refused_at_the_start(model_dir, write_rows):
    processor = load_processor(str(model_dir))
    processor.chat_template = processor.chat_template.replace("<|image_pad|>", "")
    data = str(write_rows([0, 1]))
    check = row_check_of(processor, PromptSettings(), rewards={})
    with pytest.raises(DataError, match=r"rows.jsonl:2 .* does not write <.image_pad.> once for every image"):
        read_files([data], [None], DataOptions(data=[data]), given={}, seen=SeenHeaders(), row_check=check)


def test_code_of_the_user_is_asked_in_every_start(processor):
    own = row_reward(lambda row: 0.0, name="own", check=lambda row: None)
    assert row_check_of(processor, PromptSettings(), rewards={"own.py:own": own}).name is None


@pytest.fixture
def read(write_rows, processor, tmp_path, monkeypatch):
    """Read the same rows as a run of its own would; says how many rows were looked at."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "memory"))
    data = write_rows([1, 2, 0])

    def run(rewards=ACCURACY, **settings):
        asked = []
        monkeypatch.setattr(
            "triptych_trainer.prompts.row_check.check_answer",
            lambda example, *rest, **named: (asked.append(example.id), check_answer(example, *rest, **named)),
        )
        row_check = row_check_of(processor, PromptSettings(**settings), rewards=rewards)
        examples = read_files(
            [str(data)], [None], DataOptions(data=[str(data)]), given={}, seen=SeenHeaders(), row_check=row_check
        )
        assert len(examples) == 3
        return len(asked)

    run.data = data
    return run


def test_a_second_start_asks_nothing_and_another_run_asks_again(read):
    assert [read(), read()] == [3, 0]
    assert [read(max_prompt_tokens=10_000), read()] == [3, 3], "one memory holds the last judgement"
    own = {"own.py:own": row_reward(lambda row: 0.0, name="own", check=lambda row: None)}
    assert [read(own), read(own)] == [3, 3]


def test_a_row_that_another_run_refuses_is_refused_with_its_place(read):
    read()
    with pytest.raises(DataError, match=r"rows.jsonl:1 .*expected at most 5 prompt tokens"):
        read(max_prompt_tokens=5)
    rows = [json.loads(line) for line in read.data.read_text().splitlines()]
    rows[2]["answer"] = rows[2]["solution"] = ""
    read.data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"rows.jsonl:3 .*(empty|nothing|no completion)"):
        read()
