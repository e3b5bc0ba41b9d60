"""What `triptych check` passes, `train` takes to the end of its data; what it refuses, `train` refuses in its words."""

import io
import json
import os
import shlex
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image
from triptych_data.check import main as check
from triptych_trainer.commands.check import main as check_with_rewards
from triptych_trainer.commands.train import main as train

RUN = [
    *("--reward", "format", "--num_generations", "2", "--per_device_train_batch_size", "2", "--save_strategy", "no"),
    *("--max_completion_length", "2", "--num_train_epochs", "1", "--gradient_checkpointing", "false", "--no_rollouts"),
    *("--gradient_accumulation_steps", "1", "--no_memory_forecast", "--quiet"),
]


def encoded(picture: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def picture(width: int = 56, height: int = 42, mode: str = "RGB") -> Image.Image:
    drawn = Image.linear_gradient("L").resize((width, height))
    return drawn.convert(mode) if mode != "I" else drawn.convert("I").point(lambda value: value * 300)


def frames(format: str) -> bytes:
    others = [picture().rotate(turn) for turn in (90, 180)]
    return encoded(picture(), format, save_all=True, append_images=others)


def damaged_png() -> bytes:
    """A PNG whose header is whole and whose pixels are not."""
    data = bytearray(encoded(picture(200, 200), "PNG"))
    data[60:90] = b"\xff" * 30
    return bytes(data)


def lying_png(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


JPEG = encoded(picture(120, 90), "JPEG", quality=90)
IMAGES = {
    "plain.png": encoded(picture(), "PNG"),
    "thin.png": encoded(picture(2275, 10), "PNG"),
    "slim.png": encoded(picture(1500, 10), "PNG"),
    "dot.png": encoded(picture(1, 1), "PNG"),
    "float.tiff": encoded(picture(mode="F"), "TIFF"),
    "long.tiff": encoded(picture(mode="I"), "TIFF"),
    "deep.png": encoded(Image.new("I;16", (30, 20), 30000), "PNG"),
    "dark.png": encoded(Image.new("I;16", (30, 20), 3000), "PNG"),
    "film.gif": frames("GIF"),
    "film.png": frames("PNG"),
    "ink.jpg": encoded(picture(mode="CMYK"), "JPEG"),
    "glass.png": encoded(picture(mode="LA"), "PNG"),
    "stray.jpg": JPEG[:-2] + b"stray" * 30 + JPEG[-2:],
    "unended.jpg": JPEG[:-2],
    "cut.jpg": JPEG[: len(JPEG) // 2],
    "damaged.png": damaged_png(),
    "lying.png": lying_png(300, 300),
    "wide.png": encoded(picture(900, 700), "PNG"),
    "empty.png": b"",
    "page.jpg": b"<html>404",
}
OPTIONS = {
    "plain": [],
    "allowing": ["--animated", "first", "--max_image_pixels", "100000", "--max_pixels", "3136"],
    "limited": ["--max_prompt_image_tokens", "12", "--max_prompt_tokens", "36", "--chat_template_images", "inline"],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One row for each image, and rows that are odd in other ways."""
    for name, content in IMAGES.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe.png")
    names = [*IMAGES, "pipe.png", "gone.png", "../outside.png", f"file://{tmp_path}/plain.png"]
    rows = [{"id": name, "problem": "<image> red ?", "images": [name], "answer": "a"} for name in names]
    odd = [
        {"problem": "red ?", "images": []},
        {"problem": "<image> <image> red ?", "images": ["plain.png"]},
        {"problem": "<image:1> is <image:1> and <image:2> ?", "images": ["plain.png", "wide.png"]},
        {"problem": "<image> ?", "images": [{"path": "wide.png", "max_pixels": 784}]},
        {"problem": "<image> ?", "images": ["plain.png", "wide.png"]},
        {"problem": "<|image_pad|> <image> ?", "images": ["plain.png"]},
        {"problem": "<image> " + "red " * 60 + "?", "images": ["plain.png"]},
        {"problem": "<image> ?", "images": ["plain.png"], "video": "x.mp4"},
        {"text": "nothing"},
    ]
    rows += [{"id": f"odd-{k}", "answer": "a", **row} for k, row in enumerate(odd)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n{broken\n")
    return path


def refused_by_check(data: Path, report: Path, *options: str) -> dict[str, tuple[str, str]]:
    check([str(data), "--workers", "1", "--json", str(report), *options])
    rows = json.loads(report.read_text())["refused_rows"]
    return {row["source"]: (row["reason"], row["remedy"]) for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_leaves_out_exactly_what_check_refuses_and_trains_on_the_rest(name, data, model_dir, tmp_path, capsys):
    options = ["--model", str(model_dir), *OPTIONS[name]]
    refused = refused_by_check(data, tmp_path / "report.json", *options)
    assert len(refused) > 8
    out = tmp_path / "out"
    places = ["--data", str(data), "--output_dir", str(out)]
    assert train([*options, *RUN, *places, "--on_bad", "skip", "--max_bad", "100"]) == 0, capsys.readouterr().err
    listed = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert {row["source"]: (row["reason"], row["remedy"]) for row in listed} == refused
    assert len(listed) == len(refused), "each once"
    steps = json.loads((out / "trainer_state.json").read_text())["global_step"]
    late = {"unended.jpg", "cut.jpg", "damaged.png", "lying.png"} & {row["id"] for row in listed}
    assert steps == len(data.read_text().splitlines()) - len(refused) + len(late), "what headers tell is left out early"


@pytest.mark.parametrize("image", ["thin.png", "float.tiff", "long.tiff", "dark.png", "film.gif", "wide.png"])
def test_a_run_stops_at_its_start_with_the_sentence_of_check(image, data, model_dir, tmp_path, capsys):
    one = tmp_path / "one.jsonl"
    rows = [line for line in data.read_text().splitlines()[:-1] if json.loads(line)["id"] in ("plain.png", image)]
    one.write_text("\n".join(rows) + "\n")
    options = ["--model", str(model_dir), "--max_image_pixels", "100000"]
    (source, (reason, remedy)), *more = refused_by_check(one, tmp_path / "report.json", *options).items()
    assert not more
    capsys.readouterr()
    assert train([*options, *RUN, "--data", str(one), "--output_dir", str(tmp_path / "out")]) == 2
    said, command = capsys.readouterr().err.rstrip("\n").split("; to list every refused row: triptych check ")
    assert said == f"train: error: {source} (id {image}): {reason}; {remedy}"
    assert not (tmp_path / "out").exists(), "before anything was written"
    assert check_with_rewards(shlex.split(command)) == 1, "it is a command, and finds the row"
    assert source in capsys.readouterr().out


def test_too_many_bad_rows_end_the_run(data, model_dir, tmp_path, capsys):
    options = ["--model", str(model_dir), *RUN, "--data", str(data), "--output_dir", str(tmp_path / "out")]
    assert train([*options, "--on_bad", "skip", "--max_bad", "3"]) == 2
    assert "expected at most 3 refused rows of 34, got 4" in capsys.readouterr().err


REPLACING = """
from pathlib import Path
from PIL import Image

def once(completions, **columns):
    target = Path(__file__).parent / "b.png"
    with Image.open(target) as found:
        is_old = found.size != (30, 30)
    if is_old:
        Image.new("RGB", (30, 30), "red").save(target)
    return [float(len(text[0]["content"])) for text in completions]
"""


@pytest.mark.slow_except("stop")
@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_an_image_that_is_replaced_during_the_run_is_noticed(on_bad, model_dir, tmp_path, capsys):
    """The reward writes another picture over one of them after the first step; both would decode."""
    for name in ("a.png", "b.png"):
        picture().save(tmp_path / name)
    (tmp_path / "reward.py").write_text(REPLACING)
    data = tmp_path / "rows.jsonl"
    names = ["a.png"] * 3 + ["b.png"]
    rows = [{"id": k, "problem": f"<image> {k} ?", "images": [name], "answer": "a"} for k, name in enumerate(names)]
    data.write_text("\n".join(map(json.dumps, rows)) + "\n")
    options = ["--model", str(model_dir), *RUN, "--data", str(data), "--output_dir", str(tmp_path / "out")]
    options += ["--reward", f"{tmp_path / 'reward.py'}:once", "--shuffle_dataset", "false", "--image_cache_gb", "1e-6"]
    code = train([*options, "--on_bad", on_bad, *(["--max_bad", "1"] if on_bad == "skip" else [])])
    said = "b.png: the file was replaced after the run had looked at it (expected "
    if on_bad == "stop":
        assert code == 2
        assert said in capsys.readouterr().err
        return
    assert code == 0
    (row,) = map(json.loads, (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines())
    assert said in row["reason"]
    assert row["kind"] == "changed"


def test_a_check_of_few_rows_says_what_it_cannot_know(write_rows, capsys):
    """A file of fewer prompts than one generation takes passed the check, and train refused it."""
    assert check_with_rewards([str(write_rows([1, 1, 1]))]) == 0
    assert "prompts; 3 passed, and train refuses a run that takes more" in capsys.readouterr().out
    assert check_with_rewards([str(write_rows([1] * 16))]) == 0
    assert "num_generations" not in capsys.readouterr().out
