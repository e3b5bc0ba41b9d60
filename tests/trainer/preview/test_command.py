"""What `triptych preview` prints, writes and returns."""

import json

import pytest
from PIL import Image
from triptych_data.preview.command import main as data_alone
from triptych_trainer.cli import main as triptych
from triptych_trainer.commands.preview import main


def test_it_tells_what_check_tells_and_writes_the_page(data, model_dir, tmp_path, capsys):
    out = tmp_path / "deep" / "preview.html"
    assert triptych(["preview", str(data), "--model", str(model_dir), "-o", str(out)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert "  1 row: refused: missing images" in printed
    assert "  1 row: image shrunk" in printed
    assert "  1 row: refused: answers that no completion can meet" in printed, "as for train, whose rewards compare"
    assert printed[-1].startswith(f"preview: {out} (14 rows, 14 images, 7 would be refused, ")
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in out.parent.iterdir()] == ["preview.html"]


def test_quiet_says_one_line_and_a_limit_is_said(data, tmp_path, capsys):
    out = tmp_path / "p[bold].html"
    assert main([str(data), "-o", str(out), "--limit", "4", "--quiet"]) == 0
    assert capsys.readouterr().out == f"preview: {out} (4 rows, 6 images, 0 would be refused, {size(out)} kB)\n"
    assert "<dd>4 of 14</dd>" in out.read_text(encoding="utf-8")
    assert main([str(data), "-o", str(out), "--limit", "4"]) == 0
    assert "  the first 4 of 14 rows: raise --limit" in capsys.readouterr().out
    assert main([str(data), "-o", str(out), "--limit", "0", "--quiet"]) == 1, "0: all rows"
    assert "(14 rows, " in capsys.readouterr().out


def size(path):
    return f"{path.stat().st_size / 2**10:.0f}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl: no such file (looked from "),
        (["--max_pixels", "100"], "--max_pixels needs --model, whose processor does the counting"),
        (["--model", "./nowhere"], "--model ./nowhere: no such folder"),
        (["--image_root", "/nowhere"], "--image_root /nowhere: no such folder"),
        (["--limit", "-1"], "--limit expects 0 or more, got -1"),
    ],
)
def test_bad_options_are_one_line(data, tmp_path, capsys, arguments, expected):
    files = [] if arguments[0] == "nowhere.jsonl" else [str(data)]
    assert main([*files, *arguments, "-o", str(tmp_path / "p.html")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("triptych preview: error: ")
    assert error.count("\n") == 1
    assert expected in error
    assert not (tmp_path / "p.html").exists()


def test_a_page_that_cannot_be_written_is_one_line(data, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([str(data), "-o", str(tmp_path / "file" / "p.html"), "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("triptych preview: error: ")


def test_every_format_is_read(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    parts = [{"type": "image_url", "image_url": {"url": "a.png"}}, {"type": "text", "text": "What?"}]
    formats = {
        "vlm_r1": {"image": "a.png", "conversations": [{"from": "human", "value": "<image>What?"}]},
        "sharegpt": {"images": ["a.png"], "messages": [{"role": "user", "content": "<image>What?"}]},
        "trl": {"image": "a.png", "prompt": [{"role": "user", "content": "<image>What?"}], "solution": "x"},
        "verl": {"images": ["a.png"], "problem": "<image>What?", "answer": "x"},
        "openai": {"messages": [{"role": "user", "content": parts}]},
        "swift": {"images": ["a.png"], "messages": [{"role": "user", "content": "<image>What?"}], "objects": {}},
    }
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in formats.values()))
    assert main([str(path), "-o", str(tmp_path / "p.html"), "--quiet", "--reward", "format"]) == 0
    assert (tmp_path / "p.html").read_text().count('["user",[0,"What?"]]') == len(formats)
    for name, row in formats.items():
        path.write_text(json.dumps(row) + "\n")
        given = ["--data_format", name, "--reward", "format", "--quiet"]
        assert main([str(path), *given, "-o", str(tmp_path / "p.html")]) == 0


def test_images_elsewhere_are_shown_where_that_is_allowed(tmp_path, capsys):
    elsewhere, data = tmp_path / "elsewhere", tmp_path / "data"
    for folder in (elsewhere, data):
        folder.mkdir()
    Image.new("RGB", (56, 56), "red").save(elsewhere / "a.png")
    turns = [{"from": "human", "value": "<image> ?"}, {"from": "gpt", "value": "red"}]
    rows = data / "rows.jsonl"
    rows.write_text(json.dumps({"image": [str(elsewhere / "a.png")], "conversations": turns}) + "\n")
    page = tmp_path / "p.html"
    command = [str(rows), "--image_root", str(data), "-o", str(page), "--quiet"]
    assert main(command) == 1
    assert "leads out of the image root" in page.read_text()
    assert main([*command, "--allow_outside", str(elsewhere)]) == 0
    assert "data:image/png;base64" in page.read_text()


def test_the_data_package_alone_writes_the_same_page(data, model_dir, tmp_path, capsys):
    pages = [tmp_path / "data.html", tmp_path / "trainer.html"]
    options = ["--model", str(model_dir), "--max_pixels", "50000", "--quiet", "-o"]
    assert data_alone([str(data), *options, str(pages[0])]) == 1
    assert main([str(data), "--reward", "format", *options, str(pages[1])]) == 1
    assert pages[0].read_bytes() == pages[1].read_bytes()
