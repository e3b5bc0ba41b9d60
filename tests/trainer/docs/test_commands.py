"""Every command of every document is run on small stand-ins, or read by the real parser where it cannot be run here.

A command that no rule covers fails: write the rule, or correct the document.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import triptych_data.__main__ as data_command
import triptych_parser.__main__ as parser_command
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText
from triptych_trainer.cli import COMMANDS as SUBCOMMANDS
from triptych_trainer.cli import main as triptych
from triptych_trainer.commands.train import main as train
from triptych_trainer.grpo.groups import check_groups_on_ranks
from triptych_trainer.options.arguments import parse_run
from triptych_trainer.options.chat_options import parser as chat_parser

from .commands import COMMANDS, DOCUMENTS, ROOT, Command, values_of

HUB_NAME = re.compile(r"[A-Z]\w+/[\w.\-]+")
SMALL = [
    *("--max_steps", "1", "--num_generations", "2", "--per_device_train_batch_size", "4", "--save_strategy", "no"),
    *("--gradient_accumulation_steps", "1", "--max_completion_length", "4", "--use_cpu", "True", "--bf16", "False"),
    *("--memory_forecast", "false"),
]
SMALL_SFT = ["--max_steps", "1", "--save_strategy", "no", "--use_cpu", "True", "--bf16", "False"]
RUN_BY_CI = {
    ("train",): 'uv run --project "$project" train)',
    ("triptych", "train", "--max_steps", "2"): 'uv run --project "$project" train)',
    ("pytest",): "\nuv run pytest ",
}
"""What .ci/run itself runs, before and around this test: the demo with all of its steps, in a folder of its own."""
NOT_HERE = {
    ("uv", "sync"): "made the environment that this runs in",
    ("pip", "install"): "scripts/install_alone.sh, which .ci/run calls, installs the wheels",
    ("bash", "scripts/lanes.sh"): "builds whole environments, by hand after a change of a bound",
    ("bash", "scripts/walk.sh"): "the same, and runs the section that docs/install.md shows as one",
    ("triptych", "serve"): "the sampling server: `make vllm-check` starts one",
    ("triptych", "chat"): "serves a page until Ctrl-C: tests/trainer/chat",
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_command(command: Command, request: pytest.FixtureRequest) -> None:
    rule = rule_for(command)
    assert rule is not None, f"{command.document} shows a command that no rule covers: {' '.join(command.words)}"
    rule(command, request)


def rule_for(command: Command) -> Callable[[Command, pytest.FixtureRequest], None] | None:
    words = command.words
    if words in RUN_BY_CI:
        return is_run_by_ci
    if words[:2] in NOT_HERE:
        return cannot_run_here
    if words[:2] == ("accelerate", "launch"):
        return read_launch
    if words[0] == "train" and {"--use_vllm", "--accelerate_config"} & set(words):
        return read_run
    if any(word.startswith("examples/environments/") for word in words):
        return is_run_by_env_check
    if words[0] == "train":
        return (
            read_recipe
            if any(word.startswith(("examples/recipes/", "examples/models/")) for word in words)
            else run_train
        )
    rules = {
        "triptych": run_triptych,
        "triptych-data": run_triptych_data,
        "triptych_parser": run_parser,
        "make": plan_make,
    }
    return {**rules, "pytest": names_tests, "python": names_a_script}.get(words[0])


def run_train(command: Command, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue("stand_in")(command.words)
    arguments = local(command, request) + SMALL
    assert train(arguments) == 0, request.getfixturevalue("capsys").readouterr().err
    output = folder / (arguments[arguments.index("--output_dir") + 1] if "--output_dir" in arguments else "out")
    assert any(output.glob("*.safetensors")) or "--output_dir" not in arguments


def run_triptych(command: Command, request: pytest.FixtureRequest) -> None:
    name, *_ = command.words[1:]
    assert name in SUBCOMMANDS
    folder = request.getfixturevalue("stand_in")(command.words)
    if name in ("report", "score"):
        train_small(folder / command.words[2], request)
        for run in values_of(command.words, "--compare"):
            shutil.copytree(folder / command.words[2], folder / run)
    if name == "merge":
        save_adapters(folder / command.words[2], request)
    arguments = local(command, request)
    length = "400" if "--turns" in command.words else "4"  # the results of turns count too
    arguments += ["--max_completion_length", length] if name in ("eval", "plan", "rollout") else []
    arguments += SMALL_SFT if name == "sft" else []
    arguments += ["--no_alternatives"] if name == "plan" else []  # its own tests run them
    assert triptych([name, *arguments[1:]]) == 0, request.getfixturevalue("capsys").readouterr().err
    written = {"--json", "--html", "--fix", "-o", "--out"}
    for option, value in zip(command.words, command.words[1:], strict=False):
        assert option not in written or (folder / value).stat().st_size > 0
    assert all((folder / value).is_file() for value in values_of(command.words, "--keep_mixed"))


def run_triptych_data(command: Command, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue("stand_in")(command.words)
    assert data_command.main(local(command, request)) == 0
    assert all((folder / page).stat().st_size > 0 for page in values_of(command.words, "-o"))


def run_parser(command: Command, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("stand_in")(command.words)
    assert parser_command.main(command.words[1:]) == 0


def read_launch(command: Command, request: pytest.FixtureRequest) -> None:
    """Several processes are not started: accelerate's parser and ours read the line, and the groups fit the ranks."""
    request.getfixturevalue("stand_in")(command.words)
    words = [str(ROOT / word) if word.startswith("examples/") else word for word in command.words]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(words[2:]))
    assert (args.module, args.training_script) == (True, "triptych_trainer")
    check_run(args.training_script_args, num_ranks=args.num_processes)


def read_run(command: Command, request: pytest.FixtureRequest) -> None:
    """A run that samples by vLLM is not started: `make vllm-check` starts such runs; nor is one that needs GPUs."""
    check_run(list(command.words[1:]), num_ranks=int((values_of(command.words, "--num_processes") or ["1"])[0]))


def is_run_by_env_check(command: Command, request: pytest.FixtureRequest) -> None:
    """`make env-check`, which .ci/run calls, runs tests/trainer/environments/test_recipes.py."""
    (path,) = [word for word in command.words if word.startswith("examples/environments/")]
    assert (ROOT / path).is_file()
    assert "env_check.sh" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def read_recipe(command: Command, request: pytest.FixtureRequest) -> None:
    """The recipes themselves start in tests/trainer/examples, and the files of named models are read there."""
    words = [str(ROOT / word) if word.startswith("examples/") else word for word in command.words]
    config = Path(words[words.index("--config") + 1])
    assert {"model_name_or_path", "data", "reward"} <= set(yaml.safe_load(config.read_text()))
    check_run(words[1:], num_ranks=1)


def check_run(arguments: list[str], *, num_ranks: int) -> None:
    config = parse_run([*arguments, "--bf16", "False"])
    assert config.run.data
    assert HUB_NAME.fullmatch(config.model.model_name_or_path)
    check_groups_on_ranks(
        per_device=config.grpo.per_device_train_batch_size,
        steps_per_generation=config.grpo.steps_per_generation,
        num_generations=config.grpo.num_generations,
        num_ranks=num_ranks,
    )


def plan_make(command: Command, request: pytest.FixtureRequest) -> None:
    run = subprocess.run(["make", "--dry-run", *command.words[1:]], cwd=ROOT, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr


def names_tests(command: Command, request: pytest.FixtureRequest) -> None:
    """The tests are run by CI: the folder is there, and `-k` finds its word in it, or `-m` leaves the slow ones out."""
    if command.words[1:3] == ("-m", "not slow"):
        assert (ROOT / command.words[3]).is_dir()
        return
    folder, option, word = command.words[1:]
    assert option == "-k"
    assert any(f'"{word}"' in path.read_text(encoding="utf-8") for path in (ROOT / folder).rglob("*.py"))


def names_a_script(command: Command, request: pytest.FixtureRequest) -> None:
    (script,) = command.words[1:]
    assert '__name__ == "__main__"' in (ROOT / script).read_text(encoding="utf-8")


def is_run_by_ci(command: Command, request: pytest.FixtureRequest) -> None:
    assert RUN_BY_CI[command.words] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def cannot_run_here(command: Command, request: pytest.FixtureRequest) -> None:
    """The reason is written; and where our own parser reads the line, it takes it."""
    assert NOT_HERE[command.words[:2]]
    if command.words[:2] == ("triptych", "chat"):
        assert chat_parser().parse_args(list(command.words[2:])).model


def local(command: Command, request: pytest.FixtureRequest) -> list[str]:
    """The words after the command's own, with the model and the judge's address replaced by stand-ins."""
    model, words = str(request.getfixturevalue("model_dir")), list(command.words[1:])
    for k, word in enumerate(words):
        if HUB_NAME.fullmatch(word) or words[k - 1] in ("--model", "--base"):
            words[k] = model
        if "127.0.0.1:8000" in word:
            words[k] = word.replace("127.0.0.1:8000", request.getfixturevalue("judge"))
    return words


def train_small(folder: Path, request: pytest.FixtureRequest) -> None:
    """A run to report on."""
    request.getfixturevalue("stand_in")(["rows.jsonl"])
    places = ["--model_name_or_path", str(request.getfixturevalue("model_dir")), "--data", "rows.jsonl"]
    assert train([*places, "--output_dir", str(folder), *SMALL]) == 0


def save_adapters(folder: Path, request: pytest.FixtureRequest) -> None:
    """What a LoRA run leaves, to merge."""
    model = AutoModelForImageTextToText.from_pretrained(request.getfixturevalue("model_dir"))
    get_peft_model(model, LoraConfig(target_modules=r".*language_model\..*q_proj")).save_pretrained(folder)


def test_commands_are_found_in_all_the_documents_that_have_some() -> None:
    counted = {command.document for command in COMMANDS}
    shown = {str(path.relative_to(ROOT)) for path in DOCUMENTS if "```bash" in path.read_text(encoding="utf-8")}
    assert counted == shown
    assert {"README.md", "docs/migration.md", "packages/trainer/README.md", "examples/accelerate/README.md"} <= counted


def test_an_unknown_command_has_no_rule() -> None:
    assert rule_for(Command(document="x.md", words=("triptrych", "check"))) is None


def test_every_python_block_is_run_by_some_test() -> None:
    """Packages' READMEs by tests/test_readme.py, the others by the test that is named here."""
    run = {
        "docs/add-a-family.md": "trainer/families/test_docs.py",
        "docs/environments.md": "trainer/environments/test_docs.py",
        "docs/formats.md": "data/test_readme.py",
        "docs/markers.md": "parser/test_readme.py",
        "docs/rewards.md": "trainer/rewards/test_docs.py",
        "docs/trajectories.md": "trainer/trajectories/test_docs.py",
        "README.md": "trainer/grpo/test_trl_script.py",
    }
    shown = {str(path.relative_to(ROOT)) for path in DOCUMENTS if "```python" in path.read_text(encoding="utf-8")}
    assert {name for name in shown if not name.startswith("packages/")} == set(run)
    for name, test in run.items():
        assert Path(name).name in (ROOT / "tests" / test).read_text(encoding="utf-8")
