"""The script with which CI looks at what the demo printed."""

import runpy
from pathlib import Path

import pytest

main = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "check_demo.py"))["main"]
LINE = "{} GRPO: held-out accuracy greedy 0.5, sampled {}; format 0.9\n"


@pytest.mark.parametrize(
    ("printed", "problem"),
    [
        (LINE.format("before", 0.56) + LINE.format("after", 0.94), None),
        (LINE.format("before", 0.56) + LINE.format("after", 0.6), "0.56 before and 0.6 after"),
        (LINE.format("before", 0.9) + LINE.format("after", 0.94), "0.9 before and 0.94 after"),
        (LINE.format("before", 0.56), "0.56 before and nan after"),
    ],
)
def test_a_demo_that_did_not_learn_fails(printed, problem, tmp_path, capsys):
    (tmp_path / "log").write_text(printed)
    if problem is None:
        main(tmp_path / "log")
        assert "the demo learned" in capsys.readouterr().out
        return
    with pytest.raises(SystemExit, match=problem):
        main(tmp_path / "log")
