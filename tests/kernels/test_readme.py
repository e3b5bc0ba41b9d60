"""The README's examples run as they stand."""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "packages" / "kernels" / "README.md"


def test_python_blocks() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) == 2
    exec(compile("\n".join(blocks), str(README), "exec"), {})
