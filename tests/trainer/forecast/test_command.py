"""``triptych plan`` on a small model folder and a few rows."""

import json
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForImageTextToText
from triptych_trainer.cli import main
from triptych_trainer.models.load import load_processor


@pytest.fixture(scope="module")
def shallow_dir(model_dir, tmp_path_factory):
    """The model with one layer of each kind, which is forecast in half the time."""
    folder = tmp_path_factory.mktemp("shallow")
    config = AutoConfig.from_pretrained(model_dir)
    config.text_config.num_hidden_layers, config.text_config.layer_types = 1, config.text_config.layer_types[:1]
    config.vision_config.depth, config.vision_config.fullatt_block_indexes = 1, [0]
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    load_processor(str(model_dir)).save_pretrained(folder)
    return folder


@pytest.fixture
def options(shallow_dir, write_rows):
    data = write_rows([0, 1, 2, 5, 3, 1, 2, 2])
    return [
        *("plan", "--model", str(shallow_dir), "--data", str(data), "--num_generations", "4"),
        *("--per_device_train_batch_size", "4", "--max_completion_length", "8", "--output_dir", "unused"),
        *("--device", "cpu"),
    ]


@pytest.mark.slow
def test_says_phases_rows_steps_and_writes_json(options, tmp_path, capsys):
    assert (
        main(
            [
                *options,
                "--no_alternatives",
                "--json",
                str(tmp_path / "p.json"),
                "--tflops",
                "1",
                "--memory_bandwidth",
                "10",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "rows.jsonl:4, id row-3: 5 images" in said, "the row with most tokens sets the peak"
    plan = json.loads((tmp_path / "p.json").read_text())
    assert [phase["name"] for phase in plan["phases"]] == ["generate", "policy", "update"]
    assert plan["static_memory"]["optimizer_bytes"] == pytest.approx(
        2 * plan["static_memory"]["weights_bytes"], rel=1e-3
    ), "AdamW, float32"
    assert plan["step"]["num_steps"] == 8 * 3, "one prompt a step, three epochs by default"
    assert plan["step"]["images"] == pytest.approx(16 / 8)
    assert plan["duration"]["hours"] > 0


@pytest.mark.slow
def test_a_run_that_does_not_fit_names_the_row_and_a_limit_that_would_do(options, model_dir, tmp_path, capsys):
    options += ["--model", str(model_dir)]  # where images weigh more than the logits do
    options += ["--gradient_checkpointing", "false"]  # with less memory, `auto` would turn it on
    assert main([*options, "--no_alternatives", "--json", str(tmp_path / "a.json")]) == 0
    whole = json.loads((tmp_path / "a.json").read_text())["peak"]["bytes"]
    # pictures are drawn with 4 to 8 tokens; allow for smaller ones
    limit = ["--min_pixels", "784", "--memory_gib", str(whole * 0.995 / 2**30), "--no_alternatives", "--json"]
    assert main([*options, "--limit", "0", *limit, str(tmp_path / "b.json")]) == 0, "0: all rows"
    said = capsys.readouterr().out
    assert "does not fit" in said
    assert "[bold" not in said
    assert "rows.jsonl:4, id row-3" in said.split("does not fit")[1]
    cap = json.loads((tmp_path / "b.json").read_text())["would_fit_with"]
    assert f"--max_pixels {cap['max_pixels']}" in said
    again = ["--min_pixels", "784", "--max_pixels", str(cap["max_pixels"]), "--no_alternatives", "--json"]
    assert main([*options, *again, str(tmp_path / "c.json")]) == 0
    assert json.loads((tmp_path / "c.json").read_text())["peak"]["bytes"] == cap["peak_bytes"] <= whole * 0.995


@pytest.mark.slow
def test_each_alternative_is_the_plan_of_the_changed_command_line(options, tmp_path, capsys):
    assert main([*options, "--json", str(tmp_path / "a.json")]) == 0
    assert "gradient_checkpointing" in capsys.readouterr().out
    alternatives = {
        alternative["name"]: alternative
        for alternative in json.loads((tmp_path / "a.json").read_text())["alternatives"]
    }
    for name, further in {
        "gradient_checkpointing": ["--gradient_checkpointing", "true"],
        "freeze_vision_modules": ["--freeze_vision_modules"],
    }.items():
        assert main([*options, *further, "--no_alternatives", "--json", str(tmp_path / "b.json")]) == 0
        assert json.loads((tmp_path / "b.json").read_text())["peak"]["bytes"] == alternatives[name]["peak_bytes"], name
    assert (
        alternatives["gradient_checkpointing"]["peak_bytes"]
        > alternatives["gradient_checkpointing"]["allocated_bytes"]
        > 0
    )


@pytest.mark.slow
def test_calibration_measures_a_real_pass(options, model_dir, tmp_path, capsys):
    options += ["--model", str(model_dir)]
    assert main([*options, "--no_alternatives", "--calibrate", "--json", str(tmp_path / "p.json")]) == 0
    plan = json.loads((tmp_path / "p.json").read_text())
    assert plan["measured"]["seconds"] > 0
    assert plan["duration"]["policy_seconds"] < plan["measured"]["seconds"], "an average batch is lighter"
    assert "the measured rate" in capsys.readouterr().out


@pytest.mark.slow
def test_eager_attention_of_a_tower_keeps_its_scores(options, tmp_path):
    peaks = {}
    for attention in ("sdpa", "eager"):
        path = tmp_path / f"{attention}.json"
        own = ["--attn_implementation", attention, "--no_alternatives", "--json", str(path)]
        assert main([*options, "--gradient_checkpointing", "false", *own]) == 0
        peaks[attention] = max(phase["total_bytes"] for phase in json.loads(path.read_text())["phases"])
    assert peaks["eager"] > peaks["sdpa"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "./nowhere"], "./nowhere: no such folder"),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--per_device_train_batch_size", "400"], "the data has 8 training prompts"),
        (
            ["--num_processes", "2", "--generation_batch_size", "4", "--per_device_train_batch_size", "2"],
            "spread over ranks",
        ),
        (["--max_prompt_image_tokens", "3"], "(id row-3): "),
        (["--max_prompt_tokens", "40"], "expected at most 40 prompt tokens, got "),
        (["--tflops", "0"], "--tflops expects more than 0, got 0.0"),
        (["--memory_gib", "inf"], "--memory_gib expects a finite number, got inf"),
        (["--max_rows", "3"], "did you mean --limit?; see `triptych plan --help`"),
        (["--turn_imag", "3"], "did you mean --turn_image?; see `triptych plan --help`"),
        (["--calibrate", "--device", "cuda"], "--calibrate measures on this machine, which has no GPU"),
        (
            ["--mean_completion_length", "9000", "--tflops", "1", "--memory_bandwidth", "1"],
            "which no completion exceeds",
        ),
        (["--json", "."], "--json .: expected a file, got a folder"),
        (["--output_dir", "pyproject.toml"], "--output_dir pyproject.toml: pyproject.toml is a file; name a folder"),
        (["--resume_from_checkpoint", "nope"], "--resume_from_checkpoint nope: no such folder"),
        (
            ["--resume_from_checkpoint", "latest"],
            "--resume_from_checkpoint latest: unused contains no whole checkpoint",
        ),
        (["--lr_scheduler_kwargs", "[]"], "--lr_scheduler_kwargs expects a JSON object"),
        (["--accelerator_config", "[]"], "--accelerator_config expects a JSON object"),
        (["--lr_scheduler_kwargs", '{"a":1}'], "unexpected keyword argument 'a'; correct or leave out its entries"),
        (["--reward", "model:/no/where"], "--reward model:/no/where: no such folder"),
        (["--reward", "model:"], "--reward model: expects a folder or a hub id behind its colon, got nothing"),
        (["--reward", "model:packages"], "--reward model:packages: no reward model can be loaded: "),
        (["--reward", "acuracy"], "unknown reward 'acuracy'"),
        (["--reward_weights", "1"], "--reward_weights expects one number for each of the 2 rewards, got 1"),
        (["--verdict", "iou"], "--verdict iou: expected the name of a reward, one of accuracy, format"),
        (["--history", "last_0"], "--history: expected full, or last_ and a number"),
        (["--rollout_lag", "1"], "--rollout_lag 1: only a vLLM server samples while the trainer works"),
        (["--merge_adapter"], "contains no adapters (no adapter_config.json); leave it out"),
        (["--load_in_4bit"], "quantized weights cannot be trained; add --use_peft"),
        (["--use_peft", "--lora_target_modules", "q_proj", "nope"], "--lora_target_modules nope: no module of this "),
        (["--use_peft", "--lora_target_modules", "(q"], "--lora_target_modules (q: not a regular expression"),
        (["--use_peft", "--lora_modules_to_save", "nope"], "--lora_modules_to_save nope: no module of this "),
    ],
)
def test_bad_options_are_one_line(options, capsys, arguments, expected):
    assert main([*options, *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert expected in error


@pytest.mark.parametrize("wrong", [{"answer": None, "solution": None}, {"accu_reward_method": "zzz"}])
def test_a_plan_refuses_the_rows_that_a_run_refuses_for_its_rewards(options, capsys, wrong):
    data = Path(options[options.index("--data") + 1])
    first, *others = data.read_text().splitlines()
    data.write_text("\n".join([json.dumps({**json.loads(first), **wrong}), *others]) + "\n")
    assert main([*options, "--num_generations", "4"]) == 2
    error = capsys.readouterr().err
    assert f"{data}:1 (id row-0): " in error
    assert "answer" in error or "unknown accuracy method 'zzz'" in error


def test_a_plan_never_replaces_its_data(options, capsys):
    data = Path(options[options.index("--data") + 1])
    before = data.read_bytes()
    assert main([*options, "--json", str(data)]) == 2
    assert f"--json would overwrite {data}, which is being read" in capsys.readouterr().err
    assert data.read_bytes() == before


@pytest.mark.slow
def test_quiet_is_one_line(options, capsys):
    assert main([*options, "--no_alternatives", "--quiet"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("peak ")


@pytest.mark.slow
def test_turns_with_images_are_planned_as_the_chat_template_writes_them(options, tmp_path, capsys):
    code = tmp_path / "mine.py"
    code.write_text(
        "def look(image: int) -> list:\n"
        '    """Look closer.\n\n    Args:\n        image: the number of an image.\n    """\n'
        "    return []\n"
    )
    length = options.index("--max_completion_length") + 1
    words = [*options[:length], "220", *options[length + 1 :], "--no_alternatives", "--tools", f"{code}:look"]
    plans = []
    for more in (["--turns", "0"], ["--turns", "2", "--turn_image", "56x84", "56x56"]):
        path = tmp_path / f"{len(plans)}.json"
        assert main([*words, *more, "--json", str(path)]) == 0
        plans.append(json.loads(path.read_text()))
    assert "are results of tools with 4 images, none like another" in capsys.readouterr().out
    without, planned = plans
    processor = load_processor(options[options.index("--model") + 1])
    around = "\n<|im_start|>user\n<tool_response>\n@\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    extra = sum(len(processor.tokenizer(part)["input_ids"]) for part in around.split("@"))
    assert planned["step"]["arrived_tokens"] == 2 * (extra + 2 + 6 + 2 + 4), "two images with their marks in each turn"
    assert without["step"]["arrived_tokens"] == 0
    phases = [{phase["name"]: phase for phase in plan["phases"]} for plan in plans]
    features = [by_name["policy"]["features_bytes"] for by_name in phases]
    hidden = AutoConfig.from_pretrained(options[options.index("--model") + 1]).text_config.hidden_size
    assert features[1] - features[0] == 4 * 2 * (6 + 4) * hidden * 4, "rollouts, turns, rows of features, bytes"
    assert phases[1]["generate"]["cache_bytes"] == phases[0]["generate"]["cache_bytes"], "as many tokens in all"
    assert phases[1]["policy"]["activations_bytes"] > phases[0]["policy"]["activations_bytes"]
    (row, *_) = planned["phases"][0]["rows"]
    assert row["tokens"] == without["phases"][0]["rows"][0]["tokens"] > 300, "both list the tools in the prompt"


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (["--turns", "2"], "--turns: without --tools and --environment a rollout has one turn"),
        (["--tools", "CODE"], "how many turns a rollout has is known only in the run; say how many to count"),
        (["--tools", "CODE", "--turns", "2", "--turn_image", "56"], "expected width and height in pixels"),
        (["--tools", "CODE", "--turns", "2", "--turn_image", "560x560"], "--max_completion_length 8, which counts"),
        (["--tools", "CODE", "--turns", "3", "--max_turns", "3"], "--turns 3: the run answers at most 2"),
    ],
)
def test_turns_that_cannot_be_planned_are_refused(options, tmp_path, capsys, more, error):
    code = tmp_path / "mine.py"
    code.write_text('def look() -> str:\n    """Look."""\n    return "x"\n')
    assert main([*options, *[word.replace("CODE", f"{code}:look") for word in more]]) == 2
    assert error in capsys.readouterr().err
