"""A folder of adapters as the model: its adapters are trained further, or merged first; nothing else is guessed."""

import json
import re
import shutil

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText
from triptych_trainer import MultiImageGRPOTrainer
from triptych_trainer.commands.evaluate import main as evaluate
from triptych_trainer.commands.merge import main as merge
from triptych_trainer.commands.train import main
from triptych_trainer.demo import build_model
from triptych_trainer.errors import UsageError
from triptych_trainer.forecast.skeleton import build_skeleton
from triptych_trainer.models.load import load_model, load_processor
from triptych_trainer.options.arguments import parse_run
from trl import GRPOConfig, ModelConfig

IDS = torch.tensor([[8, 9, 10]])
CPU = {"use_cpu": True, "bf16": False, "per_device_train_batch_size": 2, "gradient_checkpointing": False}


@pytest.fixture(scope="module")
def adapters(model_dir, tmp_path_factory):
    """A folder of adapters that are not zero, with the processor, as a run saves it."""
    folder = tmp_path_factory.mktemp("adapters")
    model = AutoModelForImageTextToText.from_pretrained(model_dir)
    torch.manual_seed(3)
    targets = r".*language_model\..*q_proj"
    get_peft_model(model, LoraConfig(target_modules=targets, r=2, init_lora_weights=False)).save_pretrained(folder)
    load_processor(str(model_dir)).save_pretrained(folder)
    return folder


@pytest.fixture
def command(adapters, write_rows, tmp_path):
    """A command line that takes one step which changes nothing: the learning rate is far below what float32 can add."""
    reward = tmp_path / "own.py"
    reward.write_text("def first(completion_ids, **columns):\n    return [float(ids[0]) for ids in completion_ids]\n")
    return [
        *("--model_name_or_path", str(adapters), "--output_dir", str(tmp_path / "out"), "--max_steps", "1"),
        *("--per_device_train_batch_size", "4", "--num_generations", "2", "--max_completion_length", "3"),
        *("--data", str(write_rows([1, 2])), "--reward", f"{reward}:first", "--learning_rate", "1e-30", "--quiet"),
        *("--memory_forecast", "false"),
    ]


def logits_of(model):
    return model.eval()(input_ids=IDS).logits.detach()


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            lambda name: None if "layers.0" in name else name,
            r"its file contains no \S+layers.0\S+ \(2 of 4 are missing\)",
        ),
        (lambda name: name.replace("language_model", "text_model"), r"contains no \S+ \(4 of 4 are missing\)"),
        (lambda name: name if "layers.0" not in name else name.replace("q_proj", "k_proj"), r"\(2 of 4 are missing\)"),
    ],
    ids=["cut", "of another model", "of another layer"],
)
def test_adapters_whose_weights_are_not_in_their_file_are_refused(adapters, tmp_path, changed, said, merge):
    folder = shutil.copytree(adapters, tmp_path / "changed")
    weights = load_file(folder / "adapter_model.safetensors")
    kept = {changed(name): values for name, values in weights.items() if changed(name) is not None}
    save_file(kept, folder / "adapter_model.safetensors")
    with pytest.warns(UserWarning, match="Found missing adapter keys"), pytest.raises(UsageError, match=said):
        load_model(str(folder), ModelConfig(), merge_adapter=merge)


def _names(model, folder):
    described = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**described, "base_model_name_or_path": str(model)}))


def test_adapters_for_a_folder_of_adapters_are_refused_and_the_remedy_works(adapters, tmp_path):
    upper = shutil.copytree(adapters, tmp_path / "upper")
    _names(adapters, upper)
    with pytest.raises(UsageError, match=rf"are for {adapters}, which contains adapters itself, .*triptych merge"):
        load_model(str(upper), ModelConfig())
    assert merge([str(adapters), "-o", str(tmp_path / "merged")]) == 0
    _names(tmp_path / "merged", upper)
    lower = load_model(str(adapters), ModelConfig(), merge_adapter=True)
    expected = logits_of(PeftModel.from_pretrained(lower, upper))
    assert torch.allclose(logits_of(load_model(str(upper), ModelConfig())), expected, atol=1e-5)
    _names(upper, upper)
    with pytest.raises(UsageError, match="names the folder itself as the model"):
        load_model(str(upper), ModelConfig())


def test_a_folder_of_a_whole_model_and_adapters_is_refused(adapters, model_dir, tmp_path):
    both = shutil.copytree(adapters, tmp_path / "both")
    shutil.copy(model_dir / "model.safetensors", both)
    with pytest.raises(UsageError, match=r"got both, model.safetensors and adapter_config.json; put the adapters"):
        load_model(str(both), ModelConfig())


def test_adapters_that_are_damaged_or_of_an_unknown_kind_are_one_sentence(adapters, tmp_path):
    folder = shutil.copytree(adapters, tmp_path / "changed")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"the file of its weights is damaged \(.*\); copy it again"):
        load_model(str(folder), ModelConfig())
    described = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**described, "peft_type": "NEWER"}))
    with pytest.raises(UsageError, match="has 'NEWER', which this version of PEFT does not know"):
        load_model(str(folder), ModelConfig())


@pytest.mark.parametrize("kind", [{"use_dora": True}, {"modules_to_save": ["norm"]}, {"bias": "lora_only"}])
def test_adapters_of_every_kind_are_read_whole_and_weights_of_no_adapter_refused(model_dir, tmp_path, kind):
    model = AutoModelForImageTextToText.from_pretrained(model_dir)
    made = get_peft_model(model, LoraConfig(target_modules=r".*language_model\..*q_proj", r=2, **kind))
    made.save_pretrained(tmp_path)
    assert load_model(str(tmp_path), ModelConfig()).peft_config.keys() == {"default"}
    weights = load_file(tmp_path / "adapter_model.safetensors")
    save_file(
        {**weights, "base_model.model.lm_head.lora_A.weight": torch.ones(2)}, tmp_path / "adapter_model.safetensors"
    )
    with pytest.raises(UsageError, match=r"its file contains also base_model.model.lm_head.lora_A.weight"):
        load_model(str(tmp_path), ModelConfig())


def test_a_script_that_names_a_folder_of_adapters_trains_these_further(adapters, tmp_path):
    given = {
        "reward_funcs": lambda completions, **_: [0.0] * len(completions),
        "args": GRPOConfig(str(tmp_path / "run"), report_to="none", max_steps=1, num_generations=2, **CPU),
        "train_dataset": Dataset.from_list([{"prompt": [{"role": "user", "content": "Which ?"}]}]),
    }
    trainer = MultiImageGRPOTrainer(str(adapters), **given)
    trained = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 4
    assert all("lora_" in name for name in trained)
    with pytest.raises(UsageError, match=r"peft_config: .* contains adapters, and new ones cannot be put on top of"):
        MultiImageGRPOTrainer(str(adapters), peft_config=LoraConfig(target_modules=["q_proj"]), **given)
    given["args"].model_init_kwargs = {"foo": 1}
    with pytest.raises(UsageError, match=r"model_init_kwargs foo: .* contains adapters, which are loaded without"):
        MultiImageGRPOTrainer(str(adapters), **given)


@pytest.mark.slow
def test_adapters_are_trained_further_and_saved_as_adapters(command, adapters, model_dir, tmp_path):
    assert main([*command, "--beta", "0.1"]) == 0
    out = tmp_path / "out"
    assert not (out / "model.safetensors").exists()
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (adapters, out))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(model_dir)
    log = json.loads((out / "trainer_state.json").read_text())["log_history"]
    assert log[0]["kl"] == pytest.approx(0, abs=1e-6), "the reference has the adapters that the run began with"
    assert main([*command, "--learning_rate", "0.01", "--max_steps", "2"]) == 0
    after = load_file(out / "adapter_model.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    command[1] = str(out)
    assert main([*command, "--output_dir", str(tmp_path / "third")]) == 0
    again = load_file(tmp_path / "third" / "adapter_model.safetensors")
    assert all(torch.equal(after[name], again[name]) for name in after)


@pytest.mark.slow
def test_merged_adapters_make_one_model_that_is_trained_whole(command, adapters, model_dir, tmp_path):
    assert main([*command, "--merge_adapter", "true"]) == 0
    out = tmp_path / "out"
    assert not (out / "adapter_config.json").exists()
    adapted = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(model_dir), adapters)
    merged = AutoModelForImageTextToText.from_pretrained(out)
    torch.testing.assert_close(logits_of(merged), logits_of(adapted), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits_of(build_model(0)), logits_of(merged), atol=1e-3)
    loaded = load_model(str(adapters), ModelConfig(), merge_adapter=True)
    assert all(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.slow
def test_new_adapters_go_on_merged_weights(command, tmp_path):
    assert main([*command, "--merge_adapter", "true", "--use_peft", "--lora_r", "4"]) == 0
    saved = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {min(values.shape) for values in saved.values()} == {4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--use_peft"],
            r"contains adapters, .*leave out --use_peft to go on with these, add --merge_adapter to begin",
        ),
        (["--merge_adapter", "true", "--load_in_4bit"], "cannot be merged into the rounded weights of --load_in_4bit"),
    ],
)
def test_options_that_contradict_the_folder_are_one_sentence(command, capsys, options, message):
    assert main([*command, *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("train: error: --")
    assert message.split(".*")[-1] in error


def test_there_has_to_be_something_to_merge(command, model_dir, capsys):
    command[1] = str(model_dir)
    assert main([*command, "--merge_adapter", "true"]) == 2
    assert f"--merge_adapter: {model_dir} contains no adapters" in capsys.readouterr().err


def test_a_folder_without_a_processor_has_that_of_its_model(adapters, model_dir, tmp_path):
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapters / name, tmp_path)
    found, expected = load_processor(str(tmp_path)), load_processor(str(model_dir))
    assert found.chat_template == expected.chat_template
    assert found.tokenizer.get_vocab() == expected.tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"base_model_name_or_path": "/nowhere/model"},
            "are for the model '/nowhere/model', which is neither a folder that exists",
        ),
        ({"base_model_name_or_path": None}, "does not name the model that the adapters are for"),
        (None, r"its adapter_config.json cannot be read \(JSONDecodeError"),
    ],
)
def test_a_folder_whose_model_is_not_there_is_one_sentence(adapters, tmp_path, changes, message):
    config = json.loads((adapters / "adapter_config.json").read_text())
    text = "{" if changes is None else json.dumps({**config, **changes})
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(UsageError, match=f"^--model_name_or_path {tmp_path}: .*{message}"):
        load_model(str(tmp_path), ModelConfig())


@pytest.mark.parametrize(
    "base", ["/gone/model", "./gone", "a/b/c", "~/model", "https://hub.example/a/b", "models/x/", 5]
)
def test_a_base_model_that_is_no_folder_is_named_with_the_file_that_names_it(tmp_path, base):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    where = re.escape(f"write where that model is into {tmp_path / 'adapter_config.json'}, as base_model")
    with pytest.raises(UsageError, match=f"{re.escape(repr(base))}, which is neither a folder that exists .*; {where}"):
        load_model(str(tmp_path), ModelConfig())


def test_adapters_of_another_model_are_one_sentence(adapters, tmp_path):
    """PEFT lists every weight that does not fit."""
    saved = load_file(adapters / "adapter_model.safetensors")
    config = json.loads((adapters / "adapter_config.json").read_text())
    save_file({name: torch.zeros(3, 5) for name in saved}, tmp_path / "adapter_model.safetensors")
    what = "its adapters cannot be put on Qwen2_5_VLForConditionalGeneration: "
    sizes = (
        rf"{len(saved)} of their weights have other sizes, such as base_model\S+ with 3 x 5 numbers, where this model"
    )
    none = "this model has none of the layers that they are for"
    for targets, said in ((config["target_modules"], sizes), (["c_attn"], none)):
        (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "target_modules": targets}))
        with pytest.raises(UsageError, match=f"{what}{said}.*; they were trained on another model; write .*") as caught:
            load_model(str(tmp_path), ModelConfig())
        assert len(str(caught.value)) < 700


@pytest.mark.slow
def test_a_folder_of_adapters_is_evaluated_and_planned_as_what_it_is(adapters, write_rows, tmp_path):
    out = tmp_path / "scores.json"
    assert evaluate(["--model", str(adapters), "--data", str(write_rows([1])), "--json", str(out), "--quiet"]) == 0
    config = parse_run(["--model_name_or_path", str(adapters), "--data", "rows.jsonl", "--output_dir", str(tmp_path)])
    trained = [name for name, values in build_skeleton(config).model.named_parameters() if values.requires_grad]
    assert len(trained) == 2 * 2
    assert all("lora_" in name for name in trained)


def test_a_model_without_anything_to_train_is_refused(make_trainer, write_rows, model_dir, adapters):
    frozen = AutoModelForImageTextToText.from_pretrained(model_dir)
    for model in (frozen.requires_grad_(False), PeftModel.from_pretrained(frozen, adapters)):
        with pytest.raises(UsageError, match="takes a gradient, so nothing would be trained; leave out"):
            make_trainer(write_rows([1, 2]), model=model)
