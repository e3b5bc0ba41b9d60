"""docs/preview.md: its commands run, its tables are complete."""

import re
import shlex
from pathlib import Path

from triptych_data.preview import collecting
from triptych_trainer.cli import main
from triptych_trainer.demo import write_dataset
from triptych_trainer.options.preview_options import parser

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "preview.md").read_text(encoding="utf-8")
SHARED = (DOCS / "options.md").read_text(encoding="utf-8")


def test_the_demos_data_is_previewed_by_the_documented_command(tmp_path, model_dir, monkeypatch, capsys):
    """The demo's output folder is stood in for by what the demo writes there: its data, and a model folder."""
    (command,) = re.findall(r"^uv run triptych (preview outputs/demo.*)$", PAGE, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    demo = tmp_path / "outputs" / "demo"
    demo.mkdir(parents=True)
    for file in model_dir.iterdir():
        (demo / file.name).symlink_to(file)
    write_dataset(demo / "data", split="train", num_samples=6)
    assert main(shlex.split(command)) == 0
    assert "preview: preview.html (6 rows, " in capsys.readouterr().out
    assert (tmp_path / "preview.html").exists()


def test_the_tables_name_every_option():
    for action in parser()._actions:
        name = action.option_strings[-1] if action.option_strings else "FILE"
        assert name == "--help" or f"`{name}" in PAGE or f"`{name}" in SHARED, name


def test_the_table_names_every_problem():
    names = ("SHRUNK", "ENLARGED", "CAPPED", "PUT_FIRST", "AGAIN", "REPEATED", "NO_ANSWER")
    for name in names:
        assert getattr(collecting, name) in PAGE, name
