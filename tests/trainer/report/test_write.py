import json
import math

import pyarrow.parquet as pq
import pytest
from PIL import Image
from triptych_data import ImageSource
from triptych_trainer.rollouts.image_record import ImageRecord
from triptych_trainer.rollouts.read import read_groups, read_visits
from triptych_trainer.rollouts.record import GroupRecord
from triptych_trainer.rollouts.write import RolloutWriter, image_ref, is_file


def group(step=1, mode="train", **changes):
    values = {
        "step": step,
        "mode": mode,
        "key": "t:0",
        "sample_id": "s1",
        "source": "d.jsonl:4",
        "answer": "red",
        "prompt": [("system", ["be brief"]), ("user", ["See ", 0, " and ", 0, "!"])],
        "images": [ImageRecord(name="cat", annotation=None, ref="cat.png", width=56, height=28)],
        "completions": ["red", "blue \U0001f600"],
        "num_tokens": [1, 2],
        "rewards": {"accuracy": [1.0, 0.0], "format": [None, 0.5]},
        "totals": [1.0, 0.5],
        "advantages": [0.7, -0.7],
    }
    return GroupRecord(**{**values, **changes})


def test_what_is_written_is_read_back(tmp_path):
    written = [group(), group(key="t:1", sample_id="s2", answer=None, images=[], prompt=[("user", ["2 + 2"])])]
    RolloutWriter(tmp_path).write(written)
    assert read_groups(read_visits(tmp_path)) == written


def test_totals_are_the_sum_of_the_rewards_that_applied(tmp_path):
    RolloutWriter(tmp_path).write([group(totals=None, rewards={"a": [1.0, None], "b": [float("nan"), None]})])
    (visit,) = read_visits(tmp_path)
    assert visit.totals == [1.0, None]
    assert visit.rewards == {"a": [1.0, None], "b": [None, None]}


def test_parts_are_named_by_step_mode_rank_and_number(tmp_path):
    writer = RolloutWriter(tmp_path, rank=3)
    writer.write([group(step=7)])
    writer.write([group(step=7)])
    writer.write([group(step=7, mode="eval")])
    writer.write([group(step=8)])
    assert writer.write([]) is None
    assert sorted(path.name for path in (tmp_path / "rollouts").iterdir()) == [
        "step-00000007-eval-rank003-0000.parquet",
        "step-00000007-train-rank003-0000.parquet",
        "step-00000007-train-rank003-0001.parquet",
        "step-00000008-train-rank003-0000.parquet",
    ]


def test_a_resumed_run_overwrites_the_steps_that_it_repeats(tmp_path):
    for answer in ("old", "new"):
        writer = RolloutWriter(tmp_path)
        for step in (1, 2):
            writer.write([group(step=step, answer=answer)])
    assert [found.answer for found in read_groups(read_visits(tmp_path))] == ["new", "new"]


def test_groups_of_different_steps_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"one step and mode, got \[\(1, 'train'\), \(2, 'train'\)\]"):
        RolloutWriter(tmp_path).write([group(step=1), group(step=2)])


def test_a_list_of_the_wrong_length_names_the_sample():
    with pytest.raises(ValueError, match=r"sample s1 at step 1: expected 2 values.*'advantages': 1"):
        group(advantages=[1.0])
    with pytest.raises(ValueError, match=r"""got \{"rewards\['accuracy'\]": 3\}"""):
        group(rewards={"accuracy": [1, 2, 3]})


def test_the_trainers_rows_become_groups(run_dir, examples):
    visits = read_visits(run_dir)
    assert len(visits) == 44
    found = {(visit.sample_id, visit.step): group for visit, group in zip(visits, read_groups(visits), strict=True)}
    screen = found["screen-1", 3]
    assert screen.source == "screens.jsonl:1"
    assert screen.prompt == [("user", ["Before: ", 0, "\nAfter: after the tap: ", 1, "\nWhere is the error?"])]
    assert [(image.name, image.width, image.source_width, image.thumbnail) for image in screen.images] == [
        ("before", 160, 320, None),
        ("after", 160, 320, None),
    ]
    assert screen.images[1].ref == str(examples[-2].images[1].root / "after.png")
    assert len(screen.completions) == 4
    assert screen.rewards == {"accuracy": [1.0, 0.0, 0.0, 0.0], "format": [1.0, None, 1.0, None]}
    assert screen.totals == [1.5, 0.0, 0.5, 0.0]
    assert found["text-only", 3].images == []


def test_images_that_are_no_files_are_kept_once_as_small_copies(run_dir, examples):
    (visit,) = [visit for visit in read_visits(run_dir) if (visit.sample_id, visit.step) == ("which-04", 2)]
    (found,) = read_groups([visit])
    copies = [run_dir / "rollouts" / image.thumbnail for image in found.images]
    for copy, source in zip(copies, examples[4].images, strict=True):
        with Image.open(copy) as picture:
            assert picture.tobytes() == source.ref.tobytes()
    assert len(list((run_dir / "rollouts" / "images").iterdir())) == 3


def test_large_copies_are_bounded(tmp_path, examples):
    writer = RolloutWriter(tmp_path)
    name = writer._copy(ImageSource(ref=Image.new("RGB", (2048, 1024))))
    with Image.open(tmp_path / "rollouts" / name) as picture:
        assert picture.size == (512, 256)


@pytest.mark.parametrize(
    ("ref", "known"),
    [("a/b.png", True), ("data:image/png;base64,xx", False), ("https://host/a.png", False), (b"x", False)],
)
def test_what_counts_as_a_file(ref, known):
    source = ImageSource(ref=ref)
    assert is_file(source) is known
    assert image_ref(source).endswith("a/b.png") is known


def test_parts_are_plain_parquet(run_dir):
    part = sorted((run_dir / "rollouts").glob("*.parquet"))[0]
    row = pq.read_table(part).to_pylist()[0]
    assert json.loads(row["prompt"])[0][0] == "user"
    assert math.isclose(sum(row["advantages"]), 0.0, abs_tol=1e-9)
