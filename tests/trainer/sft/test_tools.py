"""Conversations with tools are written as rollouts with the same tools are."""

from triptych_data import ImageLoader, read_examples
from triptych_data.prompt_settings import PromptSettings
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.sft.rows import ConversationPreparer
from triptych_trainer.sft.tools import tool_dress

CALL = '<tool_call>{"name": "measure", "arguments": {"number": 1}}</tool_call>'


def measure(number: int) -> str:
    """Measure an image.

    Args:
        number: Which one.
    """
    return str(number)


def test_the_list_of_tools_and_the_results_are_there_and_only_the_assistant_is_trained(processor, write):
    turns = [
        *(("user", "What is in <image>?"), ("assistant", CALL)),
        *(("tool", "this: <image>"), ("tool", "and 7"), ("assistant", "red")),
    ]
    (example,) = read_examples(write(turns))
    ends = {processor.tokenizer.eos_token_id}
    dress, settings = tool_dress(processor, PromptSettings(), [measure], end_ids=ends)
    with ImageLoader(threads=1) as loader:
        prompts = PromptPreparer(processor, loader=loader, settings=settings)
        row = ConversationPreparer(prompts, end_ids=ends, dress=dress)(example)
    decode = processor.tokenizer.decode
    text = decode(row.prompt.ids)
    assert '"name": "measure"' in text.split("<|im_start|>user")[0], "the list is in the system message"
    assert "<tool_response>\nthis: <|vision_start|>" in text
    assert "\n</tool_response>\n<tool_response>\nand 7\n</tool_response><|im_end|>" in text
    trained = decode([token for token, counts in zip(row.prompt.ids, row.trained, strict=True) if counts])
    assert trained == f"{CALL}<|im_end|>red<|im_end|>"
    assert tool_dress(processor, PromptSettings(), [], end_ids=ends)[0] is None
