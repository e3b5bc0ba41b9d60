"""The options that every command shares: their values, their errors, and the image folder of each file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image
from triptych_data.check import main
from triptych_data.errors import UsageError
from triptych_data.option_parser import OptionParser, add_options, checked, collected, underscored
from triptych_data.options import DataOptions, TemplateOptions, image_roots, prompt_settings
from triptych_data.other_names import nearest_option
from triptych_data.preview.command import write_preview
from triptych_data.preview.options import parser as preview_parser
from triptych_data.prompt_settings import PromptSettings
from triptych_data.write_whole import check_target


@dataclass(kw_only=True)
class Some:
    LEAST: ClassVar[dict[str, int]] = {"limit": 1}
    ABOVE: ClassVar[dict[str, int]] = {"speed": 0}
    MOST: ClassVar[dict[str, int]] = {"limit": 9}
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"kind": ("plain", "fancy")}

    names: list[str] | None = None
    limit: int | None = None
    speed: float | None = None
    kind: str = "plain"
    loud: bool = False
    pages: bool = field(default=True, metadata={"help": "write pages"})


def parsed(*words: str) -> Some:
    parser = OptionParser(prog="it")
    add_options(parser, Some, title="some")
    return collected(Some, parser.parse_args(words))


def test_values_come_in_any_of_their_spellings():
    assert parsed() == Some()
    assert parsed("--names", "a", "b", "--limit=3", "--kind", "fancy") == Some(names=["a", "b"], limit=3, kind="fancy")
    for words in (["--loud"], ["--loud", "true"], ["--loud=True"], ["--loud", "yes"]):
        assert parsed(*words).loud
    for words in (["--no_pages"], ["--no-pages"], ["--pages", "false"], ["--pages=no"]):
        assert not parsed(*words).pages
    assert underscored(["--data-format=a-b", "c-d", "-o"]) == ["--data_format=a-b", "c-d", "-o"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--limt", "3"], "there is no option --limt; did you mean --limit?; see `it --help`"),
        (["--zzz"], "there is no option --zzz; see `it --help`"),
        (["stray"], "'stray' belongs to no option; see `it --help`"),
        (["--limit", "x"], "--limit: invalid int value: 'x'; see `it --help`"),
        (["--limit", "0"], "--limit expects 1 or more, got 0"),
        (["--limit", "10"], "--limit expects 9 or less, got 10"),
        (["--speed", "0"], "--speed expects more than 0, got 0.0"),
        (["--speed", "nan"], "--speed expects more than 0, got nan"),
        (["--speed", "inf"], "--speed expects a finite number, got inf"),
        (["--names", "a", ""], "--names expects a value, got an empty one; give one, or leave it out"),
        (["--max_rows", "3"], "there is no option --max_rows; did you mean --limit?; see `it --help`"),
        (["--lr", "3"], "there is no option --lr; see `it --help`"),
        (["--kid", "x"], "there is no option --kid; did you mean --kind?; see `it --help`"),
        (["--kind", "gain"], "--kind expects one of plain, fancy, got 'gain'"),
        (["--kind", "fancyy"], "--kind expects one of plain, fancy, got 'fancyy'; did you mean fancy?"),
        (["--loud", "maybe"], "--loud: expected true or false, got 'maybe'; see `it --help`"),
        (["--lim", "3"], "there is no option --lim; did you mean --limit?; see `it --help`"),
    ],
)
def test_an_error_names_the_option_and_the_nearest_word(words, expected):
    with pytest.raises(UsageError) as caught:
        parsed(*words)
    assert str(caught.value) == expected


def test_an_empty_name_of_data_is_not_this_folder(tmp_path, monkeypatch, capsys):
    """`check ""` read every file of the folder in which it ran."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("{}")
    for words in (["", "rows.jsonl"], ["--data", ""]):
        assert main(words) == 2
        assert "got nothing" in (said := capsys.readouterr().err) or "got an empty one" in said


def test_a_result_never_replaces_the_data_it_is_made_of(tmp_path):
    """`preview rows.jsonl -o rows.jsonl` replaced the rows by the page."""
    rows, page = tmp_path / "rows.jsonl", tmp_path / "new" / "page.html"
    rows.write_text("{}")
    check_target(page, option="--out", read=[rows])
    for target, said in (
        (rows, "--out would overwrite .*, which is being read: name another file"),
        (tmp_path, "expected a file, got a folder; name a file in it"),
        (rows / "page.html", "rows.jsonl is a file; name a file in a folder"),
    ):
        with pytest.raises(UsageError, match=said):
            check_target(target, option="--out", read=[rows])
    for read in (tmp_path, str(tmp_path / "*.jsonl")):
        with pytest.raises(UsageError, match="which is being read"):
            check_target(rows, option="--out", read=[read])
    (beside := tmp_path / "page.html").write_text("<!doctype html>")
    check_target(beside, option="--out", read=[tmp_path])
    Image.new("RGB", (2, 2)).save(tmp_path / "0.png")
    with pytest.raises(UsageError, match="--out would overwrite .*0.png, which is a PNG file: name another file"):
        check_target(tmp_path / "0.png", option="--out", read=[rows])
    words = [str(rows), "-o", str(rows)]
    with pytest.raises(UsageError, match="--out would overwrite"):
        write_preview(preview_parser().parse_args(words), [], model=None, settings=PromptSettings())
    assert rows.read_text() == "{}"


def test_an_empty_path_is_refused():
    """`preview -o ""` ended in a traceback, because the page would have been a folder."""
    with pytest.raises(UsageError, match="^-o/--out: expected a path, got nothing; see"):
        preview_parser().parse_args(["a.jsonl", "-o", ""])


def test_one_word_from_a_configuration_file_is_a_list_of_it():
    assert checked(Some(names="images")).names == ["images"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("num_data", "num_eval", "num_roots", "expected"),
    [
        (2, 3, 0, ([None, None], [None] * 3)),
        (2, 3, 1, ("aa", "aaa")),
        (2, 3, 5, ("ab", "cde")),
        (2, 2, 2, ("ab", "ab")),
        (2, 0, 2, ("ab", "")),
        (2, 3, 2, "each of the 2 --data files and then of the 3 --eval_data files; got 2"),
        (2, 1, 2, "each of the 2 --data files and then of the 1 --eval_data files; got 2"),
        (3, 0, 2, "--image_root expects one folder, or one for each of the 3 --data files; got 2"),
    ],
)
def test_image_folders_are_counted_against_the_files_at_hand(
    tmp_path, monkeypatch, num_data, num_eval, num_roots, expected
):
    monkeypatch.chdir(tmp_path)
    for name in "abcde":
        Path(name).mkdir()
    options = DataOptions(data=["x"] * num_data, eval_data=["y"] * num_eval, image_root=list("abcde")[:num_roots])
    if isinstance(expected, str):
        with pytest.raises(UsageError, match=expected):
            image_roots(options)
        return
    found = image_roots(options)
    assert [[root and root.name for root in part] for part in found] == [list(part) for part in expected]


def test_template_arguments_are_a_json_object():
    data = DataOptions()
    given = TemplateOptions(chat_template_kwargs='{"enable_thinking": false}')
    assert prompt_settings(data, given).chat_template_kwargs == {"enable_thinking": False}
    for text in ("{", "[1]", '{"messages": 1}'):
        with pytest.raises(UsageError, match="--chat_template_kwargs"):
            prompt_settings(data, TemplateOptions(chat_template_kwargs=text))


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], 1),
        (["--on_bad", "skip"], 1),  # one of ten is more than a hundredth
        (["--on_bad", "skip", "--max_bad", "1"], 0),
        (["--on_bad", "skip", "--max_bad", "0.2"], 0),
        (["--on_bad", "skip", "--max_bad", "0"], 1),
    ],
)
def test_check_ends_as_a_run_with_the_same_options_would(write_jsonl, pictures, options, code):
    rows = [{"prompt": "<image> ?", "images": pictures[:1]}] * 9 + [{"prompt": "<image> ?", "images": ["gone.png"]}]
    assert main([str(write_jsonl(rows)), *options]) == code


def test_check_reads_held_out_files_with_their_own_folders(write_jsonl, draw, tmp_path, capsys):
    for name in ("train", "held"):
        (tmp_path / name).mkdir()
        draw(30, 20).save(tmp_path / name / f"{name}.png")
    files = [
        str(write_jsonl([{"prompt": "<image> ?", "images": [f"{name}.png"]}], name=f"{name}.jsonl"))
        for name in ("train", "held")
    ]
    roots = [str(tmp_path / name) for name in ("train", "held")]
    report = tmp_path / "report.json"
    assert main(["--data", files[0], "--eval_data", files[1], "--image_root", *roots, "--json", str(report)]) == 0
    assert json.loads(report.read_text())["rows"] == 2
    assert main(["--data", files[0], "--eval_data", files[1], "--image_root", *reversed(roots)]) == 1
    assert main([files[0], "--data", files[1]]) == 2
    assert "name the data files once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("--modle", ["--model_name_or_path", "--data"], "; did you mean --model_name_or_path?"),
        ("--modle", ["--model_name_or_path", "--model"], "; did you mean --model?"),
        ("--max_samples", ["--limit", "--data"], "; did you mean --limit?"),
        ("--max_samples", ["--data", "--model"], "; this command reads all rows, so name a file with fewer of them"),
        ("--limit", ["--data", "--model"], "; this command reads all rows, so name a file with fewer of them"),
        ("--limit", ["--out"], ""),
        ("--zzz", ["--data", "--model"], ""),
    ],
)
def test_the_nearest_option_is_found_by_each_of_its_names(name, known, said):
    assert nearest_option(name, known) == said


def test_a_misspelt_name_is_named_before_what_is_missing():
    made = OptionParser(prog="triptych eval")
    made.add_argument("--model", required=True)
    with pytest.raises(UsageError, match=r"there is no option --modle; did you mean --model\?"):
        made.parse_args(["--modle", "x"])
    with pytest.raises(UsageError, match="are required: --model"):
        made.parse_args([])
