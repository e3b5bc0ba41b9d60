"""One file knows how versions of transformers differ; others may name a version only for a reason."""

import re
from pathlib import Path

import triptych_trainer

PACKAGES = Path(triptych_trainer.__file__).resolve().parents[3]
VERSIONS_NAMED = {
    "triptych_parser/expanders/by_processor.py": "the parser imports no library, and looks at its processor",
    "triptych_parser/expanders/options.py": "the same",
    "checkpoints/weights.py": "says under which names weights are saved, and branches on the names",
    "checkpoints/resume.py": "a comment: what is set there is read from 5.19 on",
    "families/family.py": "the least version of an adapter, which `forward/hooks.py` compares",
    "families/patches.py": "the least version of an adapter",
    "families/llava.py": "a docstring: sizes are passed in every version",
    "upstream/trl_names.py": "a docstring: which attribute is there from 5.19 on",
    "forward/hooks.py": "compares the least version of an adapter",
    "trl/reference.py": "the remedy in a message",
    "trl/arguments.py": "the remedy in a message",
}
"""Files outside the border that name a version of transformers, and why that is no branch on the version."""


def test_only_one_file_branches_on_the_version_of_transformers():
    border = "triptych_trainer/upstream/transformers_names.py"
    named = re.compile(
        r"\b5\.(?:1[7-9]|2[0-9])\b|\(5, (?:1[7-9]|2[0-9])\)|\bis_at_least\b|transformers_version|_VERSION\b"
    )
    met = set()
    for path in PACKAGES.glob("*/src/**/*.py"):
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if named.search(line)]
        if lines and not path.as_posix().endswith(border):
            allowed = {name for name in VERSIONS_NAMED if path.as_posix().endswith(name)}
            assert allowed, f"{path}: {lines[0]}: put what differs into {border}"
            met |= allowed
    assert met == VERSIONS_NAMED.keys(), "a file that names no version needs no reason"
