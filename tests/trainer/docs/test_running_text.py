"""Commands and options in the running text of the documents are real: those in blocks are run by test_commands.py."""

import contextlib
import io
import re
import shlex

import pytest
from triptych_trainer.commands.completion import main as completion

from .commands import DOCUMENTS, ROOT

BLOCK = re.compile(r"^ *```.*?^ *```", flags=re.DOTALL | re.MULTILINE)
QUOTED = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
PROGRAMS = ("triptych", "triptych-data", "train", "make", "uv")
PLACEHOLDERS = {"COMMAND", "SHELL"}
OTHER_PROGRAMS = {
    "migration.md": "options of other trainers",
    "performance.md": "options of the benchmarks",
    "decisions.md": "options of earlier days",
    "rollouts.md": "options of vLLM",
}
ELSEWHERE = {
    "--cpu-durations": "pytest, by conftest.py",
    "--max-logprobs": "vLLM, which `triptych serve` starts",
    "--max_stepz": "a word that is refused",
    "--max_samples": "refused with the name that it has here",
}


def quoted(document):
    return [" ".join(text.split()) for text in QUOTED.findall(BLOCK.sub("", document.read_text(encoding="utf-8")))]


@pytest.fixture(scope="module")
def known():
    """The options of every command, as the shell completion lists them."""
    with contextlib.redirect_stdout(io.StringIO()) as written:
        assert completion(["bash"]) == 0
    found = re.findall(r'^ +(\S+)\) known="([^"]*)"', written.getvalue(), flags=re.MULTILINE)
    return {name: set(options.split()) for name, options in found}


def fault(text, known):
    """What is wrong with a quoted command, or None."""
    words = shlex.split(text)
    words = words[2:] if words[:2] == ["uv", "run"] else words
    if not words:
        return None
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        return None if words[1] in targets else f"no target {words[1]}"
    if words[0] == "train":
        words = ["triptych", *words]
    name = words[1] if words[0] == "triptych" and len(words) > 1 else None
    if name is None or name in PLACEHOLDERS or name.startswith("-"):
        return None
    if name not in known:
        return f"no command {name}"
    missing = options - known[name] - {"--help", "--help_all", *ELSEWHERE}
    return f"{name} has no option {', '.join(sorted(missing))}" if missing else None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_quoted_commands_exist(document, known):
    commands = [text for text in quoted(document) if text.split()[0] in PROGRAMS]
    assert {text: found for text in commands if (found := fault(text, known))} == {}


def test_quoted_options_exist(known):
    every = set().union(*known.values(), {"--help_all", *ELSEWHERE})
    pages = [document for document in DOCUMENTS if document.name not in OTHER_PROGRAMS]
    found = [
        (str(document.relative_to(ROOT)), name)
        for document in pages
        for text in quoted(document)
        for name in re.findall(r"^--[a-z0-9_-]+", text)
        if name not in every
    ]
    assert found == []
