"""What a stranger finds around the packages: changelog, citation, templates, public CI, and the pages as a site."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


class AnyTag(yaml.SafeLoader):
    """Reads the tags of mkdocs, which name functions of Python, as nothing."""


AnyTag.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def read(name: str) -> Any:
    return yaml.load((ROOT / name).read_text(encoding="utf-8"), Loader=AnyTag)


def version() -> str:
    project = tomllib.loads((ROOT / "packages" / "trainer" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in pages(part)]


def test_changelog_and_citation_name_the_version_of_the_packages():
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert first[1] == version()
    citation = read("CITATION.cff")
    assert (str(citation["version"]), citation["license"]) == (version(), "Apache-2.0")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_the_site_shows_every_page_once():
    shown = pages(read("mkdocs.yml")["nav"])
    assert sorted(shown) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def anchors(page: Path) -> set[str]:
    """The anchors that headings get, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_links_lead_to_headings_that_are_there(page):
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        assert anchor in anchors(page.parent / target if target else page), f"{page.name}: {target}#{anchor}"


def test_ci_runs_what_is_run_before_a_change_lands():
    (job,) = read(".github/workflows/ci.yml")["jobs"].values()
    assert job["steps"][-1] == {"run": "bash .ci/run"}


@pytest.mark.parametrize("package", ["parser", "kernels", "data", "trainer"])
def test_each_python_that_is_named_is_tested_and_has_a_wheel(package):
    (job,) = read(".github/workflows/ci.yml")["jobs"].values()
    tested = job["strategy"]["matrix"]["python"]
    kernels = tomllib.loads((ROOT / "packages" / "kernels" / "pyproject.toml").read_text(encoding="utf-8"))
    built = re.findall(r"cp3(\d+)-", kernels["tool"]["cibuildwheel"]["build"])
    assert tested == [f"3.{minor}" for minor in built]
    own = (ROOT / "packages" / package / "pyproject.toml").read_text(encoding="utf-8")
    assert tested == re.findall(r"Python :: (3\.\d+)", own)


def test_hooks_run_the_tools_of_the_environment():
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert all(hook["language"] == "system" for hook in repository["hooks"])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in (hook["entry"].split() for hook in repository["hooks"]):
        assert words[:3] in (["uv", "run", "ruff"], ["make", "--no-print-directory", "typecheck"])
        assert words[0] != "make" or f"\n{words[-1]}:" in makefile


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_bug_report_asks_for_what_there_is(template):
    from triptych_trainer.cli import COMMANDS

    form = yaml.safe_load(template.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    for command in re.findall(r"triptych (\w+)", template.read_text(encoding="utf-8")):
        assert command in COMMANDS


def test_the_image_installs_extras_that_exist():
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    extras = re.search(r"packages/trainer\[([\w,]+)\]", dockerfile)[1].split(",")
    known = tomllib.loads((ROOT / "packages/trainer/pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) <= known.keys()
    copied = re.findall(r"^COPY (\S+)", dockerfile, flags=re.MULTILINE)
    assert all((ROOT / name).exists() for name in copied)
