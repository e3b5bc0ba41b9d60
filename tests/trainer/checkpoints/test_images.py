"""A resumed run notices images that were replaced since its checkpoint, wherever they lie."""

import io
import json
import os
import shutil
import tarfile

import datasets
import pytest
from PIL import Image
from triptych_data import DataError, ImageLoader, read_examples
from triptych_data.seen_headers import SeenHeaders
from triptych_trainer.checkpoints.folder import CheckpointError
from triptych_trainer.checkpoints.images import check_same_images, write_images

LATER_NS = 2_000_000_000_000_000_000


def picture(colour, size=(40, 30)):
    """An uncompressed image: equal sizes have equal lengths."""
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "BMP")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name, colour in (("used.bmp", "red"), ("later.bmp", "blue")):
        (data / name).write_bytes(picture(colour))
    rows = [{"problem": "<image>?", "images": [name], "answer": "x"} for name in ("used.bmp", "later.bmp")]
    (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data


def saved(data, checkpoint):
    """Begin a run, train on its first row, and save."""
    seen = SeenHeaders()
    examples = read_examples(data, seen=seen)
    with ImageLoader(threads=1, seen=seen) as loader:
        loader.get(examples[0])
    checkpoint.mkdir()
    write_images(checkpoint, seen, rank=0)
    return checkpoint


def resumed(data, checkpoint, **more):
    """Begin again; returns what is said."""
    seen = SeenHeaders()
    return check_same_images(checkpoint, seen, examples=read_examples(data, seen=seen), held_out=None, **more)


def write(path, content, *, later=True):
    path.write_bytes(content)
    if later:
        os.utime(path, ns=(LATER_NS, LATER_NS))


def test_unchanged_images_pass_also_in_another_folder(folder, tmp_path):
    checkpoint = saved(folder / "rows.jsonl", tmp_path / "checkpoint-1")
    assert resumed(folder / "rows.jsonl", checkpoint) == []
    os.utime(folder / "used.bmp", ns=(LATER_NS, LATER_NS))
    assert resumed(folder / "rows.jsonl", checkpoint) == []  # its bytes are those that were trained on
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy)
    said = resumed(tmp_path / "copy" / "rows.jsonl", checkpoint)
    assert len(said) == 1  # of the image that was never decoded, the bytes are not known
    assert said[0].startswith("--data: 1 image in files that were written again after checkpoint-1, with the same size")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("used.bmp", picture("green"), id="other bytes of the same length"),
        pytest.param("used.bmp", picture("red", (30, 40)), id="other size, same length"),
        pytest.param("later.bmp", picture("blue", (41, 30)), id="an image that was not used yet"),
    ],
)
@pytest.mark.parametrize("moved", [False, True])
def test_a_replaced_file_is_refused(folder, tmp_path, name, content, moved):
    checkpoint = saved(folder / "rows.jsonl", tmp_path / "checkpoint-1")
    if moved:
        folder = folder.rename(tmp_path / "moved")
    write(folder / name, content)
    with pytest.raises(
        CheckpointError, match=f"other bytes or sizes of 1 image, the first is {name} of .*rows.jsonl:[12]; put back"
    ):
        resumed(folder / "rows.jsonl", checkpoint)


def test_an_unused_image_of_the_same_length_is_said(folder, tmp_path):
    checkpoint = saved(folder / "rows.jsonl", tmp_path / "checkpoint-1")
    write(folder / "later.bmp", picture("green"))
    (said,) = resumed(folder / "rows.jsonl", checkpoint)
    assert said.endswith("their bytes are not known from before and cannot be compared")


def test_a_damaged_image_that_was_left_out_does_not_stop_a_resume(folder, tmp_path):
    """Nothing of it was trained on: a run with `--on_bad skip` could not be resumed once it had met such an image."""
    whole = picture("blue", size=(400, 300))
    (folder / "later.bmp").write_bytes(whole[: len(whole) // 2])
    seen, checkpoint = SeenHeaders(), tmp_path / "checkpoint-1"
    examples = read_examples(folder / "rows.jsonl", seen=seen)
    with ImageLoader(threads=1, seen=seen) as loader:
        loader.get(examples[0])
        with pytest.raises(DataError, match="cannot be decoded"):
            loader.get(examples[1])
    checkpoint.mkdir()
    write_images(checkpoint, seen, rank=0)
    assert resumed(folder / "rows.jsonl", checkpoint) == []
    write(folder / "used.bmp", picture("green"))
    with pytest.raises(CheckpointError, match="other bytes or sizes of 1 image, the first is used.bmp"):
        resumed(folder / "rows.jsonl", checkpoint)


def test_what_was_used_before_a_resume_is_known_at_the_next_one(folder, tmp_path):
    checkpoint, seen = saved(folder / "rows.jsonl", tmp_path / "checkpoint-1"), SeenHeaders()
    check_same_images(checkpoint, seen, examples=read_examples(folder / "rows.jsonl", seen=seen), held_out=None)
    (second := tmp_path / "checkpoint-2").mkdir()
    write_images(second, seen, rank=0)
    write(folder / "used.bmp", picture("green"))
    with pytest.raises(CheckpointError, match="other bytes"):
        resumed(folder / "rows.jsonl", second)


def test_an_image_of_the_evaluation_data_is_only_said(folder, tmp_path):
    checkpoint, seen = saved(folder / "rows.jsonl", tmp_path / "checkpoint-1"), SeenHeaders()
    lines = (folder / "rows.jsonl").read_text().splitlines()
    (folder / "train.jsonl").write_text(lines[1])
    write(folder / "used.bmp", picture("green"))
    train, other = (read_examples(folder / name, seen=seen) for name in ("train.jsonl", "rows.jsonl"))
    (said,) = check_same_images(checkpoint, seen, examples=train, held_out=other)
    assert said.startswith(
        "--eval_data: other bytes or sizes than with checkpoint-1 of 1 image, the first is used.bmp of "
    )


def test_a_member_of_an_archive_is_compared_by_its_bytes(tmp_path):
    shard = tmp_path / "shard.tar"

    def pack(colour):
        with tarfile.open(shard, "w") as archive:
            row = json.dumps({"problem": "<image>?", "answer": "x"}).encode()
            for name, content in (("a.json", row), ("a.bmp", picture(colour))):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))

    pack("red")
    checkpoint = saved(shard, tmp_path / "checkpoint-1")
    pack("red")
    os.utime(shard, ns=(LATER_NS, LATER_NS))
    assert resumed(shard, checkpoint) == []
    pack("green")
    os.utime(shard, ns=(LATER_NS, LATER_NS))
    with pytest.raises(CheckpointError, match=r"the first is shard.tar/a.bmp of .*shard.tar:1"):
        resumed(shard, checkpoint)


def test_images_inside_a_table_are_compared_by_their_bytes(tmp_path):
    def table(colour):
        rows = [{"problem": "<image>?", "images": [{"bytes": picture(colour), "path": None}], "answer": "x"}]
        return datasets.Dataset.from_list(rows)

    checkpoint = saved(table("red"), tmp_path / "checkpoint-1")
    assert resumed(table("red"), checkpoint) == []
    with pytest.raises(CheckpointError, match="sizes of 1 image"):
        resumed(table("green"), checkpoint)
