"""The private names of TRL that are used: this test fails when TRL changes one."""

import ast
import inspect
import textwrap
from pathlib import Path

import pytest
import triptych_trainer
from triptych_trainer.checkpoints.resume import ResumableTrainer
from triptych_trainer.checkpoints.resume_grpo import ResumableGRPOTrainer
from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.grpo.trl.optimizing import OptimizingTrainer
from triptych_trainer.grpo.trl.row_loaders import TrainerOfRows
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.upstream.transformers_names import is_at_least
from triptych_trainer.upstream.trl_names import (
    ATTRIBUTES,
    CLIENT,
    CONNECTION,
    CONNECTION_OF_SEVERAL,
    CONNECTION_TO_ENGINE,
    METHODS,
    WHILE_TRAINING,
    WITH_ENGINE,
    WITHOUT_ENGINE,
    check_attributes,
    check_connection,
    check_methods,
    check_no_images,
    vllm_generation_module,
)
from trl import GRPOTrainer

OWN = {"_ask", "_ask_for_next", "_begun", "_began", "_seconds_before", "_resumed_from", "_to_verify"}
"""Attributes of our own trainers that begin with an underscore and that only an instance has."""


def test_the_installed_trl_has_every_name():
    check_methods()


def test_every_override_of_our_trainers_is_checked():
    overridden = {
        name
        for trainer in (MultiImageGRPOTrainer, TrainerOfRows, ResumableGRPOTrainer, ResumableTrainer, OptimizingTrainer)
        for name, value in vars(trainer).items()
        if inspect.isfunction(value) and not name.startswith("__") and hasattr(GRPOTrainer, name)
    }
    assert overridden <= set(METHODS)
    called = {"_calculate_rewards"}
    assert set(METHODS) <= overridden | called, "a method that nobody uses is not checked"


def private_names(path):
    """Attributes of a trainer that begin with one underscore, read or written in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("self", "trainer")
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
    }


@pytest.mark.parametrize("trainer", [MultiImageGRPOTrainer, ResumableGRPOTrainer, ResumableTrainer])
def test_every_private_attribute_of_trl_and_transformers_is_checked(trainer):
    file = Path(inspect.getfile(trainer))
    files = file.parent.glob("*.py") if file.parent.name == "trl" else [file]
    ours = [kind for kind in MultiImageGRPOTrainer.__mro__ if kind.__module__.startswith("triptych_")]
    own = {name for kind in ours for name in vars(kind)} | OWN
    checked = {*METHODS, *ATTRIBUTES, *WHILE_TRAINING, *WITH_ENGINE, *WITHOUT_ENGINE}
    for path in files:
        assert private_names(path) - own <= checked, path.name


def test_the_loss_takes_three_values_from_the_method_that_scores():
    """Our override returns three; TRL has returned other numbers of values in the past."""
    whole = ast.parse(textwrap.dedent(inspect.getsource(GRPOTrainer)))
    name = "_get_per_token_logps_and_entropies"
    unpacked = [
        len(node.targets[0].elts)
        for node in ast.walk(whole)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr == name
    ]
    assert set(unpacked) == {3}


def test_attributes_that_exist_while_training_are_there(make_trainer, write_rows):
    missing = []

    def reward(completions, **_):
        missing.extend(name for name in WHILE_TRAINING if not hasattr(trainer, name))
        return [0.0] * len(completions)

    trainer = make_trainer(write_rows([0, 0]), rewards=[reward], per_device_train_batch_size=4, max_steps=1)
    assert not hasattr(trainer, "_tr_loss")
    trainer.train()
    assert missing == ([] if is_at_least(5, 19) else ["_initial_global_step"])


def test_a_lost_attribute_is_named(make_trainer, write_rows):
    trainer = make_trainer(write_rows([0, 0]), per_device_train_batch_size=4)
    check_attributes(trainer)
    del trainer._metrics, trainer.reward_weights
    with pytest.raises(
        IncompatibleVersionError, match=r"has no attribute _metrics, reward_weights, which Triptych uses\. Tested with"
    ):
        check_attributes(trainer)


def test_pixels_that_trl_hands_to_its_loss_are_no_secret():
    check_no_images({"pixel_values": None, "num_images": None})
    with pytest.raises(IncompatibleVersionError, match="it asks for log-probabilities with pixel_values, num_images"):
        check_no_images({"pixel_values": 1, "num_images": [2], "image_sizes": None})


def test_only_one_file_imports_private_modules_of_trl():
    root = Path(triptych_trainer.__file__).parent
    for path in sorted(set(root.rglob("*.py")) - {root / "upstream" / "trl_names.py"}):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "trl." in text else ():  # to parse all files takes a second
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.startswith("trl.")], path


def test_a_changed_method_is_named_with_both_signatures():
    class Moved(GRPOTrainer):
        def _compute_loss(self, model, inputs_of_step):
            pass

    with pytest.raises(
        IncompatibleVersionError, match=r"_compute_loss of trl .*inputs.*inputs_of_step.*Tested with trl 1\.16"
    ):
        check_methods(Moved)


def test_a_lost_method_is_named():
    class Lost:
        pass

    with pytest.raises(IncompatibleVersionError, match="it is gone"):
        check_methods(Lost)


def written_by(kind):
    """What a class defines, and what its methods write on an object."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    return set(dir(kind)) | {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }


def test_the_installed_connection_to_vllm_and_its_client_have_every_name():
    module = vllm_generation_module()
    names = {*CONNECTION, *CONNECTION_TO_ENGINE, *CONNECTION_OF_SEVERAL, "vllm_client"}
    assert names <= written_by(module.VLLMGeneration)
    assert set(CLIENT) <= written_by(module.VLLMClient)


def used_of(names):
    """Attributes of the connection, or of the client of a server, that files which know them by these names use."""
    root, found = Path(triptych_trainer.__file__).parent, set()
    for path in [*root.glob("grpo/vllm/*.py"), *root.glob("grpo/trl/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).rpartition(".")[2] in names:
                found.add(node.attr)
    return found


def test_all_that_is_used_of_the_connection_is_checked():
    ours = {"is_awake", "last_payload", "rollout_seconds", "rollout_server", "scores_kept", "sends_by_folder"}
    checked = {*CONNECTION, *CONNECTION_TO_ENGINE, *CONNECTION_OF_SEVERAL, "vllm_client"}
    assert used_of({"backend", "vllm_generation"}) == checked | ours
    assert used_of({"vllm_client"}) <= set(CLIENT)


class Parts:
    """An object with the attributes that are named."""

    def __init__(self, *names, **values):
        vars(self).update({**dict.fromkeys(names), **values})


@pytest.mark.parametrize(
    ("mode", "ranks", "lost"),
    [
        ("colocate", 1, "_iter_named_params"),
        ("colocate", 1, "_llm_weights_sleeping"),
        ("colocate", 2, "tp_group"),
        ("server", 1, "vllm_client"),
        ("server", 1, "session"),
    ],
)
def test_a_lost_attribute_of_the_connection_is_named(mode, ranks, lost):
    connection = Parts(
        *CONNECTION,
        *(CONNECTION_TO_ENGINE if mode == "colocate" else ()),
        *(CONNECTION_OF_SEVERAL if ranks > 1 else ()),
        mode=mode,
        tensor_parallel_size=ranks,
        accelerator=Parts(is_main_process=True),
        vllm_client=Parts(*CLIENT),
    )
    check_connection(connection)
    delattr(connection.vllm_client if lost == "session" else connection, lost)
    with pytest.raises(IncompatibleVersionError, match=f"has no attribute {lost}, which Triptych uses"):
        check_connection(connection)
