"""Wrong words are refused before anything heavy is imported, in the sentence of the command itself."""

import importlib
import json
import shlex
import subprocess
import sys

import pytest
from triptych_trainer.cli import COMMANDS
from triptych_trainer.commands.first_look import first_look

WRONG = {
    "train --max_stepz 2": "error: there is no option --max_stepz; did you mean --max_steps?; see `train --help`",
    "train --model m --data d/d --max_steps": "train: error: --max_steps: expected one argument; see `train --help`",
    "train --model m --data d/d --max_steps two": "--max_steps: invalid int value: 'two'; see `train --help`",
    "train --model m --data d/d --lr_scheduler_type cosinus": "--lr_scheduler_type: invalid choice: 'cosinus' (choose",
    "train --model m --data d/d --use_peft flase": "--use_peft: expected true or false, got 'flase'; see `",
    "train --model m --data d/d --gradient_checkpointing on": "expected auto, true or false, got 'on'",
    "train --model m --data d/d --on_bad now": "train: error: --on_bad expects one of stop, skip, got 'now'",
    "train --model m --data d/d --loss_type grppo": "vespo, got 'grppo'; did you mean grpo?",
    "train --model m --data d/d --scale_rewards std": "--scale_rewards expects one of group, batch, none, got 'std'",
    "train --model m --data d/d --use_vllm --vllm_mode serve": "one of server, colocate, got 'serve'; did you mean ser",
    "train --model m --data d/d --num_generations 0": "--num_generations expects 2 or more, got 0",
    "train --model m --data d/d --temperature nan": "--temperature expects a number above 0, got nan",
    "train --config words.yaml": "train: error: --loss_type expects one of grpo, dr_grpo, dapo, bnpo, cispo, sapo",
    "sft --model m --data d/d --train_sampling_strategy batch_rebalance": "expects one of random, sequential, got ",
    "plan --model m --data d/d --importance_sampling_level tokens": "got 'tokens'; did you mean token?",
    "train --model m --data d/d --warn_after_steps -1": "--warn_after_steps expects 0 or more, got -1",
    "train --model a/m --data rows.jsonl --learning_rate -1": "train: error: --learning_rate expects 0 or more, got -1",
    "train --model a/m --data rows.jsonl --output_dir ''": "train: error: --output_dir expects a name, got nothing",
    "sft --model a/m --data rows.jsonl --output_dir own.py": "--output_dir own.py: own.py is a file; name a folder",
    "sft --model a/m --data rows.jsonl --max_steps 0": "triptych sft: error: --max_steps expects 1 or more, or -1 for",
    "train --model m": "--data is missing: give a model and data, or neither for the built-in demo",
    "train --data d/d": "--model_name_or_path is missing: give a model and data, or neither for the built-in demo",
    "train --config no.yaml": "--config expects the path of a YAML file, got no.yaml: no such file",
    "train --config odd.yaml": "--config names unknown options: max_stepz; did you mean max_steps?; see `train --help`",
    "train --model m --data d/d --num_processes 0": "--num_processes expects 1 or more, got 0",
    "train --model m --data d/d --accelerate_config zero4": "--accelerate_config zero4: expected a file of",
    "sft --model m --data d/d --packin": "no option --packin; did you mean --packing?; see `triptych sft --help`",
    "sft --model m": "triptych sft: error: --data is missing: give a model and data",
    "plan --device tpu": "triptych plan: error: --device expects one of auto, cpu, cuda, got 'tpu'",
    "plan --model m": "--data is missing: a plan needs a model folder (its weights are not read) and data",
    "plan --model m --data d/d --num_generation 4": "no option --num_generation; did you mean --num_generations?",
    "rollout --model m --data d/d -o o --max_rows 3": "there is no option --max_rows; did you mean --limit?",
    "rollout --model m --data no.jsonl -o o": "triptych rollout: error: --data no.jsonl: no such file (looked from",
    "eval --model m --data d/d --dtype": "triptych eval: error: --dtype: expected one argument",
    "chat": "triptych chat: error: the following arguments are required: MODEL",
    "merge adapters": "triptych merge: error: the following arguments are required: -o/--out",
    "score run --rewards accuracy": "there is no option --rewards; did you mean --reward?",
    "rollout --model a/m --data rows.jsonl -o ran": "--out ran: expected a new folder, got one that contains files",
    "rollout --model a/m --data rows.jsonl -o o --max_turns 3": "--max_turns: without --tools and --environment a roll",
    "rollout --model a/m --data rows.jsonl -o o --history last_0": "--history: expected full, or last_ and a number su",
    "rollout --model a/m --data rows.jsonl -o o --chat_template_kwargs 3": "--chat_template_kwargs expects a JSON obje",
    "rollout --model a/m --data rows.jsonl -o o --temperature 0": "--temperature expects a number above 0, got 0: gree",
    "rollout --model a/m --data rows.jsonl -o o --verdict iou": "--verdict iou: expected the name of a reward, one of",
    "rollout --model a/m --data rows.jsonl -o o --keep_mixed rows.jsonl": "--keep_mixed would overwrite rows.jsonl, wh",
    "eval --model a/m --data rows.jsonl --html rows.jsonl": "--html would overwrite rows.jsonl, which is being read: n",
    "eval --model a/m --data rows.jsonl --verdict accuracy": "--verdict: only the page shows it; add --html with a pag",
    "merge ran -o o": "ADAPTERS ran: expected a folder or hub id of adapters, found no adapter_config.json there",
    "merge ran -o o --dtype int8": "--dtype int8: expected one of auto, float32, float16, bfloat16",
    "merge lost -o o": "triptych merge: error: ADAPTERS lost: no such folder (looked from",
    "chat lost": "triptych chat: error: MODEL lost: no such folder (looked from",
    "chat ran --min_pixels 9 --max_pixels 3": "--min_pixels 9 is more than --max_pixels 3; swap or drop one",
}
FILES = {
    "score run": "triptych score: error: run: no rollouts in run/rollouts; expected the output folder of a run that",
    "score ran --verdict accuracy": "--verdict: only the page shows it; add -o with a folder for the page, or leave it",
    "score ran -o ran": "--out ran: expected a new folder, got one that contains files; name another",
    "score ran -o o --verdict acuracy": "--verdict acuracy: expected the name of a reward, one of accuracy, format; di",
    "score ran --reward own.py:lost": "reward 'own.py:lost': own.py has no 'lost'; its functions are: found",
    "score ran --reward_weights 1": "--reward_weights expects one number for each of the 2 rewards, got 1",
    "score ran --keep_mixed ran": "--keep_mixed ran: expected a file, got a folder; name a file in it",
    "train --model m --data no.jsonl": "train: error: --data no.jsonl: no such file (looked from",
    "train --config lost.yaml --model m": "train: error: --data gone.jsonl: no such file (looked from",
    "train --model m --data d/d --image_root none": "--image_root none: no such folder (looked from",
    "train --model m --data d/d --reward acuracy": "--reward: unknown reward 'acuracy' (did you mean 'accuracy'?)",
    "train --model m --data d/d --reward no.py:f": "--reward 'no.py:f': no file no.py (looked from",
    "train --model a/m --data rows.jsonl --resume_from_checkpoint lost": "lost: no such folder; --resume_from_check",
    "train --model m --data d/d --reward bad.py:f": "bad.py cannot be loaded: SyntaxError: invalid syntax (bad.py, lin",
    "train --model m --data d/d --reward own.py:": "reward 'own.py:': write 'module:function' or 'path/to/file.py:func",
    "train --model m --data d/d --reward length": "reward 'length' needs max_tokens; write length(max_tokens=...)",
    "train --model m --data d/d --tools bad.py:f": "--tools bad.py:f: bad.py cannot be loaded: SyntaxError: invalid sy",
    "train --model m --data d/d --tools own.py": "--tools own.py: write file.py:name, or module:name",
    "train --model m --data d/d --tools no.py:f": "--tools no.py:f: there is no file no.py; name one that exists",
    "train --model m --data d/d --environment e=no.py:E": "there is no file no.py; name one that exists",
    "plan --model m --data no.jsonl": "triptych plan: error: --data no.jsonl: no such file (looked from",
    "sft --model m --data no.jsonl": "triptych sft: error: --data no.jsonl: no such file (looked from",
    "train --model m --data d/d": "train: error: --model_name_or_path m: no such folder (looked from",
    "plan --model m --data d/d": "triptych plan: error: --model_name_or_path m: no such folder (looked from",
    "eval --model m --data d/d": "triptych eval: error: --model m: no such folder (looked from",
    "report nosuch": "triptych report: error: nosuch: no rollouts in nosuch/rollouts; expected the output folder of a",
    "report . --compare lost": "triptych report: error: lost: no rollouts in lost/rollouts; expected the output folder",
    "rollout --model m --data d/d -o o --reward no.py:f": "--reward 'no.py:f': no file no.py (looked from",
}
"""What the command itself would find only after it has looked for the model, and what `score` says as quickly."""
EVERY_LINE = """
import json, shlex, sys
from triptych_trainer.cli import main
for line in json.loads(sys.argv[1]):
    assert main(shlex.split(line)) == 2, line
    heavy = {"torch", "transformers", "trl", "datasets", "numpy", "pyarrow", "accelerate"} & set(sys.modules)
    assert not heavy, (line, heavy)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.yaml").write_text("max_stepz: 2\ndata: d/d\n")
    (tmp_path / "own.py").write_text("def found(completions, **columns):\n    return [0.0] * len(completions)\n")
    (tmp_path / "bad.py").write_text("def f(:\n")
    (tmp_path / "rows.jsonl").write_text("")
    (tmp_path / "ran" / "rollouts").mkdir(parents=True)
    (tmp_path / "ran" / "rollouts" / "step-00000001-train-rank000-0000.parquet").write_text("")
    (tmp_path / "words.yaml").write_text("loss_type: nosuch\ndata: d/d\nmodel_name_or_path: m\n")
    (tmp_path / "lost.yaml").write_text("data: gone.jsonl\n")
    return tmp_path


@pytest.mark.slow
def test_wrong_words_and_names_are_refused_before_the_heavy_imports():
    lines = json.dumps([*WRONG, *FILES])
    done = subprocess.run([sys.executable, "-c", EVERY_LINE, lines], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for said, expected in zip(done.stderr.splitlines(), [*WRONG.values(), *FILES.values()], strict=True):
        assert expected in said


@pytest.mark.parametrize("line", [line for line in WRONG if "--max_rows" not in line])
def test_the_command_itself_says_the_same(line, capsys):
    command, *words = shlex.split(line)
    assert first_look(command, words) == 2
    early = capsys.readouterr().err
    assert importlib.import_module(COMMANDS[command][0]).main(words) == 2
    assert capsys.readouterr().err == early


def test_a_right_line_is_left_to_the_command(capsys, folder):
    (folder / "reward.py").write_text("raise RuntimeError('loaded too early')\n")
    run = ["--model", "owner/m", "--data", "rows.jsonl", "--max-steps", "2", "--no_rollouts", "--use_peft", "--seed=3"]
    for command, words in {
        "train": [
            *run,
            "--reward",
            "reward.py:f",
            "accuracy(mode='choice')",
            "model:m",
            "--reward_weights",
            "1",
            "2",
            "3",
        ],
        "sft": [*run[:-2], "--packing", "--optim", "adamw_torch"],
        "plan": [*run, "--memory_gib", "8"],
        "rollout": ["--model", "owner/m", "--data", "rows.jsonl", "-o", "out"],
        "serve": ["m", "--what-vllm-knows", "1"],
    }.items():
        assert first_look(command, [word for word in words if command != "sft" or word != "--no_rollouts"]) == 0, (
            command
        )
    assert first_look("train", []) == 0
    assert not capsys.readouterr().err
