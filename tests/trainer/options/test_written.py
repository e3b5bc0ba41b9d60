"""A message names options as the user writes them: those of a command, or the arguments of a script."""

import pytest
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.errors import MissingPackageError, UsageError
from triptych_trainer.options.written import as_written, by_command, naming_arguments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--max_grad_norm 0.5: expected 1; lower --beta", "max_grad_norm=0.5: expected 1; lower beta"),
        ("set --use_vllm true, or --sync_ref_model false.", "set use_vllm=True, or sync_ref_model=False."),
        ("--beta 1e-3, --top_k 0; leave it out", "beta=1e-3, top_k=0; leave it out"),
        ("--vllm_mode server: --verify_model off", 'vllm_mode="server": verify_model=False'),
        ("leave out --group_sharing off", 'leave out group_sharing="off"'),
        ("--reward model:x; add --use_peft", "reward_funcs model:x; add peft_config"),
        ("start it with `triptych serve MODEL --port 1`", "start it with `triptych serve MODEL --port 1`"),
        ("it runs with --logprobs-mode raw, --shm-size 1", "it runs with --logprobs-mode raw, --shm-size 1"),
        ("a - b -- c, --, x--y", "a - b -- c, --, x--y"),
        ("add --use_vllm true --vllm_mode server", 'add use_vllm=True, vllm_mode="server"'),
        (
            "correct the path or pass the folder it is relative to as image_root (--image_root)",
            "correct the path, which is relative to the working directory or absolute; files elsewhere need "
            "image_policy=ImagePolicy(allow_outside=[...])",
        ),
        ("raise max_image_pixels (--max_image_pixels)", "raise max_image_pixels (image_policy)"),
        ('the first with animated="first" (--animated first)', 'the first with animated="first" (image_policy)'),
        ('leave such rows out with on_bad="skip" (--on_bad skip)', "leave such rows out with bad_rows"),
        ("raise max_bad (--max_bad)", "raise max_bad of bad_rows"),
        ("lower --max_pixels", "lower the preparer's max_pixels"),
        ("go on with --resume_from_checkpoint latest", "go on with resume_from_checkpoint=True"),
        ("--num_generations 4 and --trueness", "num_generations=4 and trueness"),
    ],
)
def test_options_are_named_as_a_script_writes_them(text, expected):
    assert as_written(text) == expected
    with by_command():
        assert as_written(text) == text


@naming_arguments
class Trainer:
    """A trainer that refuses everything."""

    def __init__(self, error=None):
        if error is not None:
            raise error

    def train(self):
        raise UsageError("--beta 1: no")

    def evaluate(self):
        raise ValueError("--beta 1: a fault of the program is left as it is")

    def predict(self):
        return 3


def test_what_a_trainer_refuses_names_arguments_in_a_script():
    with pytest.raises(UsageError, match="^beta=1: no$"):
        Trainer().train()
    with pytest.raises(MissingPackageError, match="^use_liger_kernel: missing$"):
        Trainer(MissingPackageError("--use_liger_kernel: missing"))
    with pytest.raises(ValueError, match="^--beta 1: a fault"):
        Trainer().evaluate()
    assert Trainer().predict() == 3


def test_what_a_trainer_refuses_names_options_in_a_command(capsys):
    assert outcome("train", lambda: Trainer().train()) == 2
    assert capsys.readouterr().err == "train: error: --beta 1: no\n"


def test_a_trainer_names_its_arguments(make_trainer, write_rows):
    with pytest.raises(UsageError, match='^completions_per_slice=2 slices .*; leave out group_sharing="off"'):
        make_trainer(write_rows([1, 1, 1, 1]), completions_per_slice=2, group_sharing="off")
    with pytest.raises(UsageError, match="^use_transformers_continuous_batching"):
        make_trainer(write_rows([1]), use_transformers_continuous_batching=True)
