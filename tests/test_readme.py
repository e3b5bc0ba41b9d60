"""Commands and examples in the READMEs are real."""

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_readme_begins_with_the_two_commands():
    first = blocks(README, "bash")[0]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["uv run train", "uv run pytest"]


def test_ci_runs_the_two_commands():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "uv run train" in script
    assert "uv run pytest" in script


def test_the_example_row_is_read(tmp_path):
    from PIL import Image
    from triptych_data import read_examples

    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    row = json.loads(blocks(README, "json")[0])
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    example = read_examples(tmp_path / "train.jsonl", image_root=tmp_path)[0]
    assert (example.prompt.image_order, example.answer) == ((0, 1), "the title")


@pytest.mark.parametrize("name", ["parser", "kernels", "data", "trainer"])
def test_the_examples_of_each_package_hold(name, tmp_path, monkeypatch):
    examples = blocks((ROOT / "packages" / name / "README.md").read_text(encoding="utf-8"), "python")
    assert examples, f"packages/{name}/README.md opens with an example"
    assert "assert" in examples[0]
    script = tmp_path / "readme.py"
    script.write_text("\n".join(examples))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


OTHER_PROJECTS = {"rollouts.md": "vLLM's files", "migration.md": "TRL's tests"}
GONE = {"grpo/trl/private_names.py"}
"""Files that a decision names because it replaced them."""
NOT_HERE = {
    "THP_MEM_ALLOC_ENABLE": "torch",
    "arc4random": "glibc",
    "dlopen": "glibc",
    "silu": "torch",
    "tojson": "Jinja2",
    "varlen_attn": "torch",
    "Asked": "renamed",
    "backoff_seconds": "removed",
    "energon": "removed",
    "played_in": "removed",
}
"""Names in decisions that no file of the repository contains."""


def names_of_files() -> set[str]:
    """Every file and folder of the repository, under each end of its path: a page may leave out where it begins."""
    folders = ("docs", "examples", "packages", "scripts", "tests", ".ci", ".github")
    paths = [path.relative_to(ROOT).parts for folder in folders for path in (ROOT / folder).rglob("*")]
    paths += [(path.name,) for path in ROOT.iterdir()]
    return {"/".join(parts[start:]) for parts in paths for start in range(len(parts))}


def test_the_files_that_pages_name_exist():
    known = names_of_files()
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("packages/*/README.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|sh|h|cpp|cu|js))(?:: \w+)?`", text)
        own = {name for name in named if not name.startswith("my_") and name not in ("file.py", "plugin.py")}
        own -= GONE if page.name == "decisions.md" else set()
        assert page.name in OTHER_PROJECTS or own <= known, f"{page.name} names {own - known}"
    assert not GONE & known, "a decision says that these files are gone"
    folders = re.findall(r"`((?:[\w-]+/)+[\w-]*)`", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"))
    assert {folder.rstrip("/") for folder in folders} <= known


def test_the_names_in_decisions_exist():
    kinds = {".py", ".cpp", ".cu", ".h", ".html", ".js", ".css", ".md", ".toml", ".sh", ".yaml", ".json"}
    folders = [ROOT / name for name in ("docs", "examples", "packages", "scripts", "tests")]
    files = {path for folder in folders for path in folder.rglob("*")} | set(ROOT.iterdir())
    files -= {Path(__file__).resolve(), ROOT / "docs/decisions.md"}
    files = {path for path in files if "build" not in path.parts}  # what nvcc leaves there contains names of glibc
    texts = [path.read_text(encoding="utf-8") for path in files if path.suffix in kinds and path.is_file()]
    known = set(re.findall(r"\w+", "\n".join(texts)))
    text = (ROOT / "docs/decisions.md").read_text(encoding="utf-8")
    quoted = [re.sub(r"[\w./-]+\.(?:py|sh|h|cpp|html)\b", "", name) for name in re.findall(r"`([^`\n]+)`", text)]
    named = {word for name in quoted for word in re.findall(r"[A-Za-z_]\w+", name)}
    assert named - known == set(NOT_HERE)


def test_the_walks_name_functions_that_exist_and_enter_each_file_once():
    walks = re.findall(
        r"^\| `([\w/]+\.py): (\w+)` \|", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"), flags=re.M
    )
    files = [file for file, _ in walks]
    assert len(files) == len(set(files)) > 20
    for file, name in walks:
        (path,) = ROOT.glob(f"packages/*/src/{'' if file.startswith('triptych_') else 'triptych_trainer/'}{file}")
        assert re.search(rf"^(def|class) {name}\b", path.read_text(encoding="utf-8"), flags=re.M), f"{file}: {name}"


def test_the_legend_of_shapes_has_every_letter():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.split("## Shape legend", 1)[1].split("## Style", 1)[0]
    legend = set(re.findall(r"^\| `([A-Z])` \| \w", table, flags=re.M))
    named = re.findall(r"`(\w+_[A-Z0-9]+)`", table)
    files = [*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("packages/kernels/csrc/*")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    names = re.findall(r"\b[a-z][a-z_]*_[0-9]*[A-Z][A-Z0-9]{0,4}\b", text)
    shapes = re.findall(r"(?<![\w\])])\[([A-Z](?:, [A-Z0-9])*)\]", text)  # of docstrings; `Sequence[T]` is a type
    assert {letter for shape in shapes for letter in shape.split(", ") if letter.isalpha()} <= legend
    found = set(names) - {"do_GET", "do_POST"}  # of the page's server
    assert {letter for name in found for letter in name.rpartition("_")[2] if letter.isalpha()} <= legend
    assert set(named) <= found
