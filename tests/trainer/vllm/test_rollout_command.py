"""``triptych rollout --use_vllm`` sends an engine what a run sends it."""

from triptych_trainer.commands.rollout import main
from triptych_trainer.rollouts.read import read_groups, read_visits


def test_each_prompt_is_sent_once_for_its_completions(vllm_engines, model_dir, write_rows, tmp_path):
    data, out = write_rows([0, 2, 1]), tmp_path / "out"
    given = ["--model", str(model_dir), "--data", str(data), "-o", str(out), "--num_generations", "3", "--use_vllm"]
    assert main([*given, "--max_completion_length", "4", "--vllm_tensor_parallel_size", "2", "--quiet"]) == 0
    ((fake, options),) = vllm_engines
    assert (options["tensor_parallel_size"], options["logprobs_mode"]) == (2, "processed_logprobs")
    (call,) = fake.calls
    assert [len(prompt.get("multi_modal_data", {}).get("image", [])) for prompt in call["prompts"]] == [0, 2, 1]
    assert {(params["n"], params["temperature"], params["max_tokens"]) for params in call["sampling"]} == {(3, 1.0, 4)}
    assert fake.image_token_id in call["sampling"][0]["logit_bias"], "image tokens are never sampled"
    found = read_groups(read_visits(out))
    assert [[list(ids) for ids in group.completion_ids] for group in found] == [
        [fake._completion(31 * number + index) for index in range(3)] for number in range(3)
    ]


def test_adapters_are_to_be_merged_first(vllm_engines, model_dir, write_rows, tmp_path, capsys):
    from peft import LoraConfig, get_peft_model
    from triptych_trainer.demo import build_model, build_processor, build_tokenizer

    model = build_model(0)
    model.name_or_path = str(model_dir)
    model.config._name_or_path = str(model_dir)
    get_peft_model(model, LoraConfig(r=1, target_modules=["q_proj"])).save_pretrained(tmp_path / "adapters")
    build_processor(build_tokenizer()).save_pretrained(tmp_path / "adapters")
    given = ["--model", str(tmp_path / "adapters"), "--data", str(write_rows([1])), "-o", str(tmp_path / "out")]
    assert main([*given, "--use_vllm"]) == 2
    assert "`triptych merge" in capsys.readouterr().err
