"""Datasets that a script passes: every column is read as in a file, for training and for evaluation."""

import copy
import json

import datasets
import pytest
from PIL import Image
from triptych_data import ImageLoader, read_examples
from triptych_trainer.errors import UsageError
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.sft.trl.trainer import MultiImageSFTTrainer
from trl import SFTConfig

TURNS = [("system", "Be short."), ("user", "First <image>. And <image>?"), ("assistant", "red thing")]


@pytest.fixture
def trainer(loaded, write, tmp_path):
    """A trainer on a file of one conversation, with the same conversation for evaluation."""
    model, processor = loaded
    rows = ExampleTable(list(read_examples(write(TURNS))))
    args = SFTConfig(output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, report_to=[])
    with ImageLoader(threads=1) as loader:
        yield MultiImageSFTTrainer(
            copy.deepcopy(model),
            args,
            rows,
            rows,
            preparer=PromptPreparer(processor, loader=loader),
            verify_model=False,
        )


def picture(path):
    with Image.open(path) as image:
        return image.copy()


def dataset(tmp_path):
    """The conversation of the file as columns of TRL, with its system prompt in a column."""
    (row,) = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    return datasets.Dataset.from_dict(
        {
            "system": [TURNS[0][1]],
            "prompt": [[{"role": "user", "content": TURNS[1][1]}]],
            "completion": [[{"role": "assistant", "content": TURNS[2][1]}]],
            "images": [[picture(tmp_path / name) for name in row["images"]]],
        }
    )


def test_a_dataset_that_is_passed_to_an_evaluation_has_the_loss_of_the_same_rows_in_a_file(trainer, tmp_path):
    expected, before = trainer.evaluate()["eval_loss"], len(trainer.tables)
    assert trainer.evaluate(dataset(tmp_path))["eval_loss"] == pytest.approx(expected, rel=1e-6)
    assert trainer.evaluate({"held": dataset(tmp_path)})["eval_held_loss"] == pytest.approx(expected, rel=1e-6)
    assert len(trainer.tables) == before, "they are forgotten"
    with pytest.raises(UsageError, match=r"eval_dataset\['none'\] has no rows"):
        trainer.evaluate({"none": dataset(tmp_path).select([])})
