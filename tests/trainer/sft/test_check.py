"""`triptych check --sft`: the rows that `sft` would refuse, and no others."""

import pytest
from triptych_trainer.cli import main


def test_check_refuses_what_sft_refuses(model_dir, write, tmp_path, capsys):
    answered = [("user", "See <image>"), ("assistant", "red"), ("user", "and <image>?"), ("assistant", "blue")]
    data = write(answered, [("user", "no answer")])
    words = ["check", str(data), "--model", str(model_dir)]
    assert main([*words, "--reward", "format"]) == 0, "a row without an answer is fine for some rewards"
    capsys.readouterr()
    assert main([*words, "--sft"]) == 1
    said = capsys.readouterr().out
    assert "expected a text of the assistant to train on" in said
    assert said.count("rows.jsonl:2") == 1
    assert "rows.jsonl:1 " not in said
    assert main([*words, "--sft", "--max_length", "10"]) == 1
    assert "rows.jsonl:1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sft"], "--sft needs --model, whose chat template"),
        (["--max_length", "10"], "--max_length is that of whole conversations; add --sft"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words, said, write, capsys):
    assert main(["check", str(write([("user", "a"), ("assistant", "b")])), *words]) == 2
    assert said in capsys.readouterr().err
