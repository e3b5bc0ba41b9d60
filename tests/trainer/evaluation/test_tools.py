"""``triptych eval`` with tools and environments: the rollouts of the run, scored, shown turn by turn, and counted."""

import json

import pytest
from transformers import GenerationMixin, LogitsProcessor, LogitsProcessorList
from triptych_trainer.commands.evaluate import main
from triptych_trainer.commands.rollout import main as rollout
from triptych_trainer.rollouts.read import read_groups, read_visits

CODE = '''
import asyncio

from PIL import Image
from triptych_trainer.trajectories.images import RolloutImages


def look(image: int, images: RolloutImages) -> list:
    """Look closer.

    Args:
        image: the number of an image.
    """
    return [{"type": "image", "image": images[image].picture.resize((84, 84))}]


class Boxes:
    """Opens boxes."""

    def reset(self, kind) -> str:
        self.opened = []
        return f"There are boxes beside {kind}."

    def open(self, box: int) -> list:
        """Open a box.

        Args:
            box: its number.
        """
        self.opened.append(box)
        return [{"type": "image", "image": Image.new("RGB", (56, 56), (9, 9, 40 * box))}]

    async def nap(self) -> str:
        """Sleep."""
        await asyncio.sleep(9)

    def get_reward(self) -> float:
        return float(sum(self.opened))
'''


def call(name, **arguments):
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


class Says(LogitsProcessor):
    """Rules out every token but the next one of a script."""

    def __init__(self, rows):
        self.rows, self.step = rows, 0

    def __call__(self, input_ids, scores):
        for row, ids in zip(scores, self.rows, strict=True):
            wanted = ids[min(self.step, len(ids) - 1)]
            kept = row[wanted].clone()
            row[:] = float("-inf")
            row[wanted] = kept
        self.step += 1
        return scores


@pytest.fixture
def says(monkeypatch, model_dir):
    """Let `generate` write these messages, one list for each turn of a batch; greedily or not."""
    from triptych_trainer.models.load import load_processor

    tokenizer = load_processor(str(model_dir)).tokenizer
    generate = GenerationMixin.generate

    def script(*turns):
        left = iter(turns)

        def scripted(self, *args, logits_processor, **kwargs):
            rows = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in next(left)]
            return generate(
                self, *args, logits_processor=LogitsProcessorList([*logits_processor, Says(rows)]), **kwargs
            )

        monkeypatch.setattr(GenerationMixin, "generate", scripted)

    return script


@pytest.fixture
def options(model_dir, write_rows, tmp_path):
    code = tmp_path / "mine.py"
    code.write_text(CODE)
    words = ["--model", str(model_dir), "--data", str(write_rows([1, 2])), "--verify_model", "off"]
    return [*words, "--max_completion_length", "600", "--json", str(tmp_path / "e.json")], code


@pytest.mark.slow
def test_rollouts_with_tools_are_paired_counted_and_shown_turn_by_turn(options, says, model_dir, tmp_path, capsys):
    words, code = options
    turn = [call("look", image=1), call("look", image=2)]
    says(turn, ["red", call("look", image=9)], ["red"], [turn[0], "red"], ["blue"])
    out = ["--base", str(model_dir), "--html", str(tmp_path / "e.html"), "--tools", f"{code}:look"]
    assert main([*words, *out, "--max_turns", "3"]) == 0
    content = json.loads((tmp_path / "e.json").read_text())
    first, second = content["rows"]["model"]
    assert [row["scores"]["accuracy"] for row in (first, second)] == [1.0, 1.0]
    assert [row["scores"]["accuracy"] for row in content["rows"]["base"]] == [0.0, 1.0]
    assert content["model_minus_base"]["all"]["all"]["accuracy"]["mean"] == 0.5
    (own,) = second["trajectories"]
    assert [[one["tool"] for one in turn["calls"]] for turn in own["turns"]] == [["look"], ["look"], []]
    assert own["turns"][0]["calls"][0]["returned"] == [2], "the third image, after two of the prompt"
    assert own["images"][0]["width"] == 84
    assert own["turns"][1]["calls"][0]["failed"]
    assert content["tools"]["model"] == {
        "rollouts": 2,
        "turns": 5,
        "calls": 3,
        "failed_calls": 1,
        "images": 2,
        **{f"ended_by_{name}": 0 for name in ("turns", "room", "environment", "length")},
    }
    said = capsys.readouterr().out
    assert "model: 1.50 calls per rollout, 1 of 3 failed; 2.50 turns and 1.00 images per rollout" in said
    assert "row-1, rollout 1, turn 2: look failed, and the model was told: LookupError: there is no image 9" in said
    page = (tmp_path / "e.html").read_text()
    assert "calls of model" in page
    assert '"tool":"look"' in page


@pytest.mark.slow
def test_an_environment_begins_answers_and_scores_the_rows(options, says, tmp_path):
    words, code = options
    says([call("open", box=1)] * 2 + [call("open", box=2), "x"], [call("open", box=3), "x", "x"])
    sampled = ["--num_generations", "2", "--temperature", "1", "--max_tool_calling_iterations", "1"]
    assert main([*words, *sampled, "--reward", "format", "--environment", f"{code}:Boxes"]) == 0
    content = json.loads((tmp_path / "e.json").read_text())
    assert [row["scores"]["Boxes"] for row in content["rows"]["model"]] == [1.0, 1.0], "means of 1, 1 and of 2, 0"
    assert content["tools"]["model"]["ended_by_turns"] == 1
    (late,) = content["rows"]["model"][0]["trajectories"][0]["turns"][1]["calls"]
    assert late["was_done"] is False


@pytest.mark.slow
def test_rollouts_before_a_run_are_played_scored_and_recorded_with_their_turns(options, says, tmp_path, capsys):
    words, code = options
    words = words[: words.index("--json")]
    says([call("open", box=1), call("nap"), call("open", box=1), "x"], [call("open", box=2), "x", "x"], ["x"])
    own = ["--environment", f"{code}:Boxes", "--reward", "format", "--num_generations", "2", "--max_turns", "3"]
    own += ["--tool_seconds", "0.1"]
    assert rollout([*words, *own, "-o", str(tmp_path / "out")]) == 0
    found = read_groups(read_visits(tmp_path / "out"))
    assert [group.rewards["Boxes"] for group in found] == [[3.0, 0.0], [1.0, 0.0]]
    first, slow = found[0].trajectories
    assert slow.turns[0].calls[0].returned == ["{'error': 'no answer within 0.1 seconds'}"]
    assert [[one.tool for one in turn.calls] for turn in first.turns] == [["open"], ["open"], []]
    assert '"tool":"open"' in (tmp_path / "out" / "report.html").read_text()
    assert f"environment:\n- {code}:Boxes" in (tmp_path / "out" / "config.yaml").read_text()
    assert rollout([*words, *own, "-o", str(tmp_path / "more"), "--use_vllm"]) == 2
    assert (
        "--use_vllm: with --tools and --environment this command samples with transformers" in capsys.readouterr().err
    )


def test_options_of_turns_need_tools_and_tools_need_to_load(options, capsys):
    words, code = options
    assert main([*words, "--max_turns", "2"]) == 2
    assert "--max_turns: without --tools and --environment a rollout has one turn" in capsys.readouterr().err
    assert main([*words, "--tools", f"{code}:nothing"]) == 2
    assert "has no 'nothing'; it has" in capsys.readouterr().err
