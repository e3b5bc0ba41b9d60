"""The commands that the documents show, read from their ```bash blocks."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PLACES = ("README.md", "CONTRIBUTING.md", "docs/*.md", "packages/*/README.md", "examples/**/README.md")
DOCUMENTS = sorted(path for place in PLACES for path in ROOT.glob(place))


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command: where it is shown, and its words without `uv run` and comments."""

    document: str
    words: tuple[str, ...]
    environment: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Short enough for the list of tests."""
        return f"{self.document}: {' '.join(self.words)[:60]}"


def commands_of(document: Path) -> list[Command]:
    """Return the commands of every ```bash block of a document; a line that ends with a backslash goes on."""
    blocks = re.findall(r"^```bash\n(.*?)^```", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [command(document, line) for line in lines if shlex.split(line, comments=True)]


def command(document: Path, line: str) -> Command:
    """Take a line apart."""
    words = shlex.split(line, comments=True)
    environment = []
    while re.match(r"[A-Z_]+=", words[0]):
        environment.append(words.pop(0))
    if words[:2] == ["uv", "run"]:
        words = words[2:]
    if words[0] in ("python", "python3") and words[1] == "-m":
        words = words[2:]
    return Command(document=str(document.relative_to(ROOT)), words=tuple(words), environment=tuple(environment))


def values_of(words: Sequence[str], option: str) -> list[str]:
    """The words after an option, up to the next option."""
    if option not in words:
        return []
    rest = list(words[words.index(option) + 1 :])
    end = next((k for k, word in enumerate(rest) if word.startswith("-")), len(rest))
    return rest[:end]


COMMANDS = [found for document in DOCUMENTS for found in commands_of(document)]
