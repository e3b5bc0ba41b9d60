"""A row is known by its key: whatever the tables of a run are, the prepared prompt of a key is the row's own."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from triptych_data import Example, ImageLoader, ImageSource, read_examples
from triptych_parser import bind, parse
from triptych_trainer.models.load import load_processor
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.prompts.run_tables import RunTables

WORDS = ("red", "green", "blue")
ROW = st.tuples(st.sampled_from([None, "a", "b"]), st.sampled_from(WORDS), st.integers(0, 5))
"""A row's id (none, or one that others have too), the word of its question, and its picture."""
TABLE = st.tuples(
    st.sampled_from(["jsonl", "array", "two files", "dataset", "transformed", "dataset of rows"]),
    st.lists(ROW, min_size=1, max_size=4),
)


def picture(number: int) -> Image.Image:
    """Pictures of three sizes, no two alike."""
    return Image.new("RGB", (56 + 28 * (number % 3), 56), (40 * number, 200 - 30 * number, 90))


def values(row, *, image):
    sample, word, _ = row
    named = {} if sample is None else {"id": sample}
    return {**named, "image": image, "problem": f"<image> {word} ?", "solution": word}


def write_table(kind: str, rows, folder: Path):
    """The rows as one table of a run: an `ExampleTable`, or a dataset as it is passed to the trainer."""
    folder.mkdir()
    if kind == "transformed":
        messages = [[{"role": "user", "content": f"{word} ?"}] for _, word, _ in rows]
        shown = {"prompt": messages, "image": [picture(number) for *_, number in rows]}
        made = datasets.Dataset.from_dict({"number": list(range(len(rows)))})
        return made.with_transform(
            lambda batch: {name: [column[k] for k in batch["number"]] for name, column in shown.items()}
        )
    if kind == "dataset":
        messages = [[{"role": "user", "content": f"{word} ?"}] for _, word, _ in rows]
        columns = {"prompt": messages, "image": [picture(number) for *_, number in rows]}
        return datasets.Dataset.from_dict(columns)
    for _, _, number in rows:
        picture(number).save(folder / f"{number}.png")
    filled = [values(row, image=f"{row[2]}.png") for row in rows]
    if kind == "dataset of rows":
        table = datasets.Dataset.from_list([{**row, "image": str(folder / row["image"])} for row in filled])
        return ExampleTable(read_examples(table, image_root=folder))
    if kind == "array":
        (folder / "rows.json").write_text(json.dumps(filled))
        return ExampleTable(read_examples(folder / "rows.json"))
    cut = len(filled) // 2 if kind == "two files" else 0
    files = []
    for name, part in (("first.jsonl", filled[:cut]), ("second.jsonl", filled[cut:])):
        if part:
            files.append(folder / name)
            files[-1].write_text("".join(json.dumps(row) + "\n" for row in part))
    return ExampleTable(read_examples(files))


@pytest.fixture(scope="module")
def processor(model_dir):
    return load_processor(str(model_dir))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TABLE, min_size=1, max_size=3), st.integers(1, 4), st.randoms(use_true_random=False))
@example([("array", [(None, "red", 0), (None, "red", 1), (None, "blue", 2)])], 4, None)
@example([("jsonl", [("a", "red", 0), ("a", "red", 1)]), ("jsonl", [("a", "red", 2)])], 4, None)
@example([("dataset", [(None, "red", 0)]), ("transformed", [(None, "red", 1)])], 4, None)
def test_the_prepared_prompt_is_the_row_s_own(processor, tmp_path_factory, tables, keep, rng):
    folder = tmp_path_factory.mktemp("tables")
    run, rows = RunTables(), []
    for number, (kind, entries) in enumerate(tables):
        keys = run.keys_of(write_table(kind, entries, folder / str(number)), name=f"table {number}")["row"]
        assert keys == list(range(len(rows), len(rows) + len(entries))), "no two rows share a key"
        rows += entries
    order = [key for key in range(len(rows)) for _ in range(2)]
    if rng is not None:
        rng.shuffle(order)
    with ImageLoader(threads=1) as loader:
        preparer = PromptPreparer(processor, loader=loader, keep=keep)
        for key in order:
            _, word, number = rows[key]
            prepared = preparer(run.example(key))
            own = processor.image_processor(images=[picture(number)], return_tensors="pt")["pixel_values"]
            assert torch.equal(prepared.image_inputs[0]["pixel_values"], own)
            assert word in processor.tokenizer.decode(prepared.ids)


def test_examples_made_by_hand_may_share_everything_but_their_content(processor):
    def made(number):
        pixels = np.asarray(picture(number))
        source = ImageSource(ref=Image.fromarray(pixels))
        return Example(
            id="a", prompt=bind(parse("<image> ?"), 1), images=(source,), answer=None, extras={}, source="nowhere"
        )

    one, other = made(0), made(1)
    assert one.key == other.key
    with ImageLoader(threads=1) as loader:
        preparer = PromptPreparer(processor, loader=loader)
        first = preparer(one)
        assert not torch.equal(preparer(other).image_inputs[0]["pixel_values"], first.image_inputs[0]["pixel_values"])
        assert preparer(made(1)) is preparer(other), "equal content is prepared once"


def test_examples_that_differ_in_their_tools_alone_have_prompts_of_their_own(processor):
    prompt, tools = bind(parse("?"), 0), ({"name": "zoom"},)
    one, other = (
        Example(id="a", prompt=prompt, images=(), answer=None, extras={}, source="nowhere", tools=own)
        for own in ((), tools)
    )
    with ImageLoader(threads=1) as loader:
        preparer = PromptPreparer(processor, loader=loader)
        assert preparer(one).example.tools == ()
        assert preparer(other).example.tools == tools
