"""``triptych rollout`` and ``triptych score``: own rewards tried before a run, on a small model and file."""

import pytest
import yaml
from triptych_trainer.commands import sampled
from triptych_trainer.commands.rollout import main as rollout
from triptych_trainer.commands.score import main as score
from triptych_trainer.rollouts.read import read_groups, read_visits

REWARDS = """
def characters(completions, **columns):
    return [float(len(set(one[0]["content"]))) for one in completions]

def one_image(completions, image_infos, **columns):
    return [float(len(infos) == 1) for infos in image_infos]

def of_the_row(completions, kind, completion_ids, prompts, images, answer, prompt_end, **columns):
    assert all(prompt[-1]["role"] == "user" for prompt in prompts)
    assert answer == ["red"] * len(completions)
    sides = [sum(sum(info.open().size + info.open("source").size) for info in infos) for infos in images]
    return [len(ids) + len(text) + side for ids, text, side in zip(completion_ids, kind, sides)]
"""


@pytest.fixture
def options(model_dir, write_rows, tmp_path):
    data = write_rows([0, 1, 2, 1])
    (tmp_path / "own.py").write_text(REWARDS)
    shared = ["--model", str(model_dir), "--data", str(data), "--max_completion_length", "4", "--batch_size", "3"]
    return [*shared, "--num_generations", "4", "--reward", f"{tmp_path}/own.py:characters"]


def groups_of(folder):
    return read_groups(read_visits(folder))


def oddly_written(path):
    """The same rows in a form that no writer of JSON gives: spaces, escapes, a line end of another system."""
    lines = path.read_text().splitlines()
    odd = [line.replace('": ', '" :  ').replace("red", "r\\u0065d") for line in lines]
    text = "\ufeff" + "\r\n".join([*odd[:2], "", *odd[2:]])
    path.write_bytes(text.encode())
    return [f"{line}\r\n".encode() for line in odd[:3]] + [f"{odd[3]}\n".encode()]


def test_samples_scores_and_keeps_the_rows_that_can_teach_byte_for_byte(options, tmp_path, capsys):
    lines = oddly_written(tmp_path / "rows.jsonl")
    own = ["--reward", f"{tmp_path}/own.py:characters", f"{tmp_path}/own.py:one_image", "--reward_weights", "2", "1"]
    given = [*options, *own, "-o", str(tmp_path / "out"), "--keep_mixed", str(tmp_path / "clean.jsonl")]
    assert rollout(given) == 0
    found = groups_of(tmp_path / "out")
    assert [group.sample_id for group in found] == [f"row-{k}" for k in range(4)]
    for group in found:
        assert [len(ids) for ids in group.completion_ids] == list(group.num_tokens)
        assert group.rewards["characters"] == [float(len(set(text))) for text in group.completions]
        assert group.rewards["one_image"] == [float(len(group.images) == 1)] * 4
        assert group.totals == [2 * a + b for a, b in zip(*group.rewards.values(), strict=True)]
    differ = [k for k, group in enumerate(found) if len(set(group.totals)) > 1]
    assert len(differ) > 0
    assert (tmp_path / "clean.jsonl").read_bytes() == b"".join(lines[k] for k in differ)
    assert "row-3" in (tmp_path / "out" / "report.html").read_text()
    printed = capsys.readouterr().out
    assert f"kept: {tmp_path}/clean.jsonl ({len(differ)} of 4 rows)" in printed
    assert f"groups without variance: {4 - len(differ)} of 4" in printed


@pytest.mark.slow
def test_kept_rows_are_read_again_and_the_others_are_those_whose_completions_are_equal(options, tmp_path):
    given = ["--reward", f"{tmp_path}/own.py:one_image", "-o", str(tmp_path / "out"), "--quiet"]
    assert rollout([*options, *given, "--keep_mixed", str(tmp_path / "clean.jsonl")]) == 0
    assert (tmp_path / "clean.jsonl").read_bytes() == b"", "one score for all completions of a prompt"


def test_scores_by_other_rewards_what_was_sampled_without_the_model(options, tmp_path, capsys, monkeypatch):
    assert rollout([*options, "-o", str(tmp_path / "out"), "--quiet"]) == 0
    before = groups_of(tmp_path / "out")
    capsys.readouterr()
    monkeypatch.setattr(sampled, "load_model", None)
    given = [str(tmp_path / "out"), "--reward", f"{tmp_path}/own.py:characters", f"{tmp_path}/own.py:of_the_row"]
    kept = tmp_path / "kept.jsonl"
    assert score([*given, "-o", str(tmp_path / "again"), "--keep_mixed", str(kept)]) == 0
    after = groups_of(tmp_path / "again")
    assert [group.completions for group in after] == [group.completions for group in before]
    for old, new in zip(before, after, strict=True):
        assert new.rewards["characters"] == old.rewards["characters"]
        sides = [(image.width + image.height, image.source_width + image.source_height) for image in new.images]
        common = len(f"{len(new.images)} images") + sum(map(sum, sides))
        pairs = zip(new.rewards["of_the_row"], new.completion_ids, strict=True)
        of_the_row = [score - len(ids) - common for score, ids in pairs]
        assert of_the_row == [0.0] * 4
    lines = (tmp_path / "rows.jsonl").read_bytes().splitlines(keepends=True)
    assert kept.read_bytes() == b"".join(
        line for line, group in zip(lines, after, strict=True) if len(set(group.totals)) > 1
    )
    printed = capsys.readouterr().out
    assert "recorded" in printed
    assert "matched" not in printed
    assert "no row" not in printed
    assert (tmp_path / "again" / "report.html").is_file()
    assert score([str(tmp_path / "again"), "--reward", "format", "--quiet"]) == 0, "scores can be scored again"
    for wrong, expected in {
        ("--image_root", "nope"): "--image_root nope: no such folder",
        ("--reward_weights", "0"): "--reward_weights: every weight is 0",
        ("-o", str(tmp_path / "new"), "--keep_mixed", str(tmp_path / "new")): "--out writes",
    }.items():
        capsys.readouterr()
        assert score([str(tmp_path / "out"), "--reward", "format", *wrong]) == 2
        assert expected in capsys.readouterr().err


@pytest.mark.slow
def test_says_how_rows_were_found_where_the_data_has_changed(options, tmp_path, capsys):
    assert rollout([*options, "-o", str(tmp_path / "out"), "--quiet"]) == 0
    data = tmp_path / "rows.jsonl"
    lines = data.read_text().splitlines()
    data.write_text("\n".join(lines[1:]) + "\n")
    assert score([str(tmp_path / "out"), "--reward", "accuracy"]) == 0
    printed = capsys.readouterr().out
    assert "3 of 4 groups were matched with their rows by id" in printed
    assert "1 of 4 groups have no row in the data that is here" in printed
    assert score([str(tmp_path / "out"), "--reward", "accuracy", "--keep_mixed", str(tmp_path / "kept.jsonl")]) == 2
    assert "--keep_mixed" in capsys.readouterr().err
    data.unlink()
    assert score([str(tmp_path / "out"), "--reward", f"{tmp_path}/own.py:of_the_row"]) == 2
    error = capsys.readouterr().err.strip()
    assert "reward 'of_the_row'" in error
    assert len(error.splitlines()) == 1


@pytest.mark.slow
def test_scores_the_rollouts_of_a_run(make_trainer, write_rows, tmp_path, capsys):
    from triptych_trainer.rollouts.write import RolloutWriter

    data = write_rows([1, 2, 0, 3])
    (tmp_path / "own.py").write_text(REWARDS)
    make_trainer(data, on_rollouts=RolloutWriter(tmp_path / "run").record).train()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"data": [str(data)], "learning_rate": 1e-4}))
    own = f"{tmp_path}/own.py:characters"
    assert score([str(tmp_path / "run"), "--reward", own, "-o", str(tmp_path / "again")]) == 0
    before, after = groups_of(tmp_path / "run"), groups_of(tmp_path / "again")
    assert [(g.step, g.mode, g.key) for g in after] == [(g.step, g.mode, g.key) for g in before]
    assert [g.rewards["characters"] for g in after] == [g.rewards["character_reward"] for g in before]
    assert "no row" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--temperature", "0"], "--temperature expects a number above 0, got 0: greedy completions of a prompt"),
        (["--num_generations", "1"], "--num_generations expects 2 or more, got 1"),
        (["--reward_weights", "1", "2"], "--reward_weights expects one number for each of the 1 rewards, got 2"),
        (["--eval_data", "rows.jsonl"], "--eval_data: completions are sampled for the rows of --data"),
        (["--keep_mixed", "out"], "--keep_mixed out: --out writes out; name another file for one of the two"),
        (["--keep_mixed", "./out/run.json"], "--keep_mixed out/run.json: --out writes out/run.json; name another file"),
        (["--reward_weights", "0"], "--reward_weights: every weight is 0, so that nothing could be learned"),
        (["--keep_mixed", "rows.jsonl"], "--keep_mixed would overwrite rows.jsonl, which is being read"),
        (["--use_vllm"], "--use_vllm: vllm is not installed; pip install 'triptych-trainer[vllm]'"),
        (["-o", "."], "--out .: expected a new folder, got one that contains files"),
        (["--reward", "model:judge"], "--reward model:judge: expected reward functions, got a reward model"),
    ],
)
def test_bad_options_of_a_rollout_are_one_line(options, tmp_path, capsys, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    assert rollout([*options, "-o", "out", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert expected in error
    assert not (tmp_path / "out").exists(), "the corrected line is to find a new folder"


def test_a_folder_without_rollouts_is_one_line(tmp_path, capsys):
    assert score([str(tmp_path), "--reward", "format"]) == 2
    assert "no rollouts in" in capsys.readouterr().err
