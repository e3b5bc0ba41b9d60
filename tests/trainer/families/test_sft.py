"""Every family trained on conversations, against the loss and the gradients of its stock forward on the same ids."""

import copy
import json

import pytest
import torch
from peft import get_peft_model
from triptych_data import DataError, ImageLoader, read_examples
from triptych_data.prompt_settings import PromptSettings
from triptych_trainer.cli import main
from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.models.adapters import adapter_config
from triptych_trainer.models.families import family_of
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.sft.rows import ConversationPreparer, group_batch, labels_of
from triptych_trainer.sft.tools import tool_dress
from triptych_trainer.verification.stock_inputs import stock_inputs
from trl import ModelConfig

TOLERANCE = 1e-5
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")  # GLM's


def conversation(*turns):
    speakers = ("user", "assistant")
    return [{"role": speakers[k % 2], "content": text} for k, text in enumerate(turns)]


def examples_of(kits, folder, rows):
    """The examples of rows that show some of three pictures."""
    for number, picture in enumerate(kits.pictures(3)):
        picture.save(folder / f"{number}.png")
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return list(read_examples(folder / "rows.jsonl"))


@pytest.fixture(scope="module")
def conversations(kits, tmp_path_factory):
    """Two rows that share a picture; in the first one a picture is in a later turn."""
    folder = tmp_path_factory.mktemp("conversations")

    turns = ("ab <image> c <image> ?", "xyz", "d <image>", "uvw!")
    rows = [
        {"images": ["0.png", "1.png", "2.png"], "messages": conversation(*turns)},
        {"images": ["1.png"], "messages": conversation("<image> e", "short")},
    ]
    return examples_of(kits, folder, rows)


@pytest.fixture(scope="module")
def one_answer(kits, tmp_path_factory):
    """Two rows of one answer, which share a picture."""
    folder = tmp_path_factory.mktemp("one_answer")
    rows = [
        {"images": ["0.png", "1.png"], "messages": conversation("<image> ab <image> c ?", "xyz")},
        {"images": ["1.png", "2.png"], "messages": conversation("<image><image> e", "short")},
    ]
    return examples_of(kits, folder, rows)


def loss_of_suffixes(kits, kit, examples, rows, *, model):
    """The loss of the processor's own way to train: the answer is its ``suffix``, behind a prompt that it ends."""
    total, count = torch.zeros(()), 0
    for number, (example, row) in enumerate(zip(examples, rows, strict=True)):
        text = kit.processor.apply_chat_template(example.prompt.messages(), tokenize=False, add_generation_prompt=True)
        pictures = kits.pictures(3)[number : number + 2]
        inputs = kit.processor(images=[pictures], text=[text], suffix=[example.reply], return_tensors="pt")
        labels = inputs.pop("labels")[0]
        assert inputs["input_ids"][0].tolist() == list(row.prompt.ids)[: row.stop]
        assert (labels != -100).tolist() == list(row.trained)[: row.stop]
        logps = model(**inputs).logits[0].float().log_softmax(-1)
        for place in labels.ne(-100).nonzero()[:, 0].tolist():
            total, count = total - logps[place - 1, labels[place]], count + 1
    return total / count


def stock_loss(model, rows, preparer):
    """The mean over all trained tokens."""
    total, count = torch.zeros(()), 0
    for row in rows:
        logps = model(**stock_inputs(row.prompt, preparer)).logits[0].float().log_softmax(-1)
        for place in range(1, len(row.trained)):
            if row.trained[place]:
                total, count = total - logps[place - 1, row.prompt.ids[place]], count + 1
    return total / count


@pytest.mark.slow_except("qwen2_5_vl", "gemma3")
def test_the_loss_of_conversations_equals_that_of_the_stock_forward(
    lab, kits, kit, family_name, conversations, one_answer
):
    stock, family = kit.stock, family_of(kit.stock)
    tokenizer = kit.processor.tokenizer
    ends = {tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id}
    with ImageLoader(threads=1) as loader:
        prompts = PromptPreparer(kit.processor, loader=loader, family=family)
        preparer = ConversationPreparer(prompts, end_ids=ends)
        if family.no_later_images is not None:
            with pytest.raises(DataError, match=r"expected one turn of the assistant.* got 2"):
                preparer(conversations[0])
            rows = [preparer(example) for example in one_answer]
            expected = loss_of_suffixes(kits, kit, one_answer, rows, model=stock)
        else:
            rows = [preparer(example) for example in conversations]
            expected = stock_loss(stock, rows, prompts)
    expected.backward()
    gradients = lab.gradients(stock)
    batch = group_batch(rows)
    alone_differs = family_name == "llava_onevision"  # one picture is cut into tiles, several are not
    assert len(batch.images) == 3 + alone_differs, "a picture of two rows goes through the tower once"
    num_labels = int((labels_of(rows)[0] != -100).sum())
    assert num_labels == sum(map(sum, (row.trained for row in rows)))
    for packed in (True, False):
        model = kit.model()
        engine = GroupEngine(share_prompts=packed, verify=False)
        loss = -engine.logps(model, batch, keys=range(2)).logps_BC.sum() / num_labels
        loss.backward()
        assert abs((loss - expected).item()) < TOLERANCE
        lab.assert_same_gradients(lab.gradients(model), gradients, tolerance=TOLERANCE)


@pytest.fixture(scope="module")
def tool_turns(kits, tmp_path_factory):
    """A row whose tools show pictures, and one without tools that shares one of these."""
    folder = tmp_path_factory.mktemp("tool_turns")
    called = [
        {"role": "user", "content": "ab <image> ?"},
        {"role": "assistant", "content": "measure it"},
        {"role": "tool", "content": "here <image>"},
        {"role": "tool", "content": "and 7 <image>"},
        {"role": "assistant", "content": "xyz"},
    ]
    rows = [
        {"images": ["0.png", "1.png", "2.png"], "messages": called},
        {"images": ["1.png"], "messages": conversation("<image> e", "short")},
    ]
    return examples_of(kits, folder, rows)


def measure(number: int) -> str:
    """Measure an image.

    Args:
        number: Which one.
    """
    return str(number)


@pytest.mark.slow_except("qwen2_5_vl")
def test_adapters_get_the_gradients_of_the_stock_forward_on_turns_of_tools(
    lab, kits, kit, family_name, tool_turns, one_answer
):
    base = kit.model()
    torch.manual_seed(0)
    config = adapter_config(ModelConfig(use_peft=True, lora_r=2, lora_alpha=2, lora_dropout=0.0), base)
    config.init_lora_weights = False  # both factors differ from zero
    stock = get_peft_model(base, config).train()
    model = copy.deepcopy(stock)
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    tokenizer, family = kit.processor.tokenizer, family_of(kit.stock)
    ends = {tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id}
    takes_tools = family.no_later_images is None
    dress, settings = tool_dress(kit.processor, PromptSettings(), [measure] if takes_tools else [], end_ids=ends)
    with ImageLoader(threads=1) as loader:
        prompts = PromptPreparer(kit.processor, loader=loader, family=family, settings=settings)
        preparer = ConversationPreparer(prompts, end_ids=ends, dress=dress)
        rows = [preparer(example) for example in (tool_turns if takes_tools else one_answer)]
        if takes_tools:
            expected = stock_loss(stock, rows, prompts)
        else:
            expected = loss_of_suffixes(kits, kit, one_answer, rows, model=stock)
    expected.backward()
    gradients = lab.gradients(stock)
    assert gradients
    assert all("lora_" in name for name in gradients)
    num_labels = sum(map(sum, (row.trained for row in rows)))
    for packed in (True, False):
        engine = GroupEngine(share_prompts=packed, verify=False)
        loss = -engine.logps(model, group_batch(rows), keys=range(2)).logps_BC.sum() / num_labels
        loss.backward()
        assert abs((loss - expected).item()) < TOLERANCE
        # The gradients of a layer that multiplies decays are a thousandth of the others'.
        tolerance = 1e-4 if family_name.startswith("qwen3_5") else TOLERANCE
        lab.assert_same_gradients(lab.gradients(model), gradients, tolerance=tolerance)


@pytest.mark.slow
def test_the_commands_take_a_model_that_ends_its_prompts_by_itself(folder_of, one_answer, tmp_path, capsys):
    data = str(one_answer[0].source).rpartition(":")[0]
    named = ("--model", str(folder_of("paligemma")), "--data", data)
    assert main(["plan", "--sft", *named]) == 0
    assert main(["preview", data, *named[:2], "--sft", "-o", str(tmp_path / "page.html")]) == 0
    assert "0 would be refused" in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "xyz&lt;|im_end|&gt;" in page, "the trained tokens are marked"
    held_out = ("--eval_data", data, "--eval_strategy", "steps", "--eval_steps", "2")
    code = main(["sft", *named, "--output_dir", str(tmp_path / "out"), "--max_steps", "2", *held_out])
    assert code == 0, capsys.readouterr().err[-2000:]
    assert "eval_loss" in (tmp_path / "out" / "trainer_state.json").read_text()
    assert (tmp_path / "out" / "model.safetensors").is_file()
