"""`triptych preview --sft`: what is trained, marked in the conversation, and the rows that `sft` would refuse."""

import json
import re

from triptych_trainer.cli import main


def test_the_page_marks_what_is_trained_and_refuses_what_sft_refuses(model_dir, write, tmp_path, capsys):
    turns = [("user", "See <image>"), ("assistant", "red"), ("user", "and <image>?"), ("assistant", "blue")]
    data, page = write(turns, [("user", "no answer")]), tmp_path / "preview.html"
    words = ("preview", str(data), "--sft", "-o", str(page), "--quiet")
    assert main([*words, "--model", str(model_dir)]) == 1, "one row is refused"
    first, second = json.loads(re.search(r'id="rows-0">(.*?)</script>', page.read_text(), re.DOTALL)[1])
    assert first["trained"] == ["red<|im_end|>", "blue<|im_end|>"]
    assert [role for role, _ in first["turns"]] == ["user", "assistant", "user", "assistant"]
    assert "expected a text of the assistant to train on" in second["error"]
    assert main(list(words)) == 2
    assert "--sft needs --model" in capsys.readouterr().err
