"""Chat templates that do not begin the answer, or begin it twice, and those that are right."""

from __future__ import annotations

from typing import Any

import pytest
from processor_zoo import templates
from triptych_parser.generation_prompt import generation_prompt_fault

ASSISTANT = "<|im_start|>assistant\n"
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content[0].text }}<|im_end|>\n{% endfor %}"
ONLY_TEXTS = "{% for m in messages %}{{ '### ' + m.role + ': ' + m.content }}\n{% endfor %}"
BEGIN = "{% if add_generation_prompt %}" + ASSISTANT + "{% endif %}"
ALWAYS = (
    "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{{ m.content[0].text }}<|im_end|>\n"
    "<|im_start|>assistant\n{% else %}{{ m.content[0].text }}<|im_end|>\n{% endif %}{% endfor %}"
)
NO_ASSISTANT = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ raise_exception('no') }}{% endif %}"
    "{{ m.content }}{% endfor %}"
)


def before_answers(text: str) -> str:
    return TURNS.replace("{{ m.content", "{% if m.role == 'assistant' %}" + text + "{% endif %}{{ m.content")


RIGHT = {
    "chatml": templates.chatml("<image>"),
    "llava": templates.LLAVA_TEMPLATE,
    "gemma": templates.GEMMA_TEMPLATE,
    "smolvlm": templates.SMOLVLM_TEMPLATE,
    "an answer follows the question directly": templates.MISTRAL_TEMPLATE,
    "other roles": templates.COHERE_TEMPLATE,
    "no chat at all": templates.PLAIN_TEMPLATE,
    "thoughts are opened": TURNS + BEGIN.replace(ASSISTANT, ASSISTANT + "<think>\n"),
    "thoughts are closed": TURNS + BEGIN.replace(ASSISTANT, ASSISTANT + "<think>\n\n</think>\n\n"),
    "earlier answers get empty thoughts": before_answers("<think>\n\n</think>\n\n") + BEGIN,
    "answers get a channel": before_answers("<|channel|>final<|message|>") + BEGIN,
    "always written": ALWAYS,
    "takes no assistant": NO_ASSISTANT,
}
MISSING = {"chatml": TURNS, "only texts": ONLY_TEXTS, "with thoughts": before_answers("<think></think>")}


class Processor:
    """A processor of the one template."""

    def __init__(self, qwen: Any, template: str) -> None:
        self.tokenizer, self.chat_template = qwen.tokenizer, template

    def apply_chat_template(self, messages: Any, **options: Any) -> Any:
        return self.tokenizer.apply_chat_template(messages, chat_template=self.chat_template, **options)


@pytest.mark.parametrize("template", RIGHT.values(), ids=RIGHT)
def test_a_template_that_begins_the_answer_once_passes(qwen: Any, template: str) -> None:
    assert generation_prompt_fault(Processor(qwen, template)) is None


@pytest.mark.parametrize("template", MISSING.values(), ids=MISSING)
def test_a_template_that_ignores_the_argument_is_found_and_its_remedy_mends_it(qwen: Any, template: str) -> None:
    problem, remedy = generation_prompt_fault(Processor(qwen, template)) or ("", "")
    assert problem.startswith("the chat template ignores add_generation_prompt: a prompt lacks the ")
    added = remedy.removeprefix("end the template with ")
    assert added.startswith("{% if add_generation_prompt %}{{ ")
    assert generation_prompt_fault(Processor(qwen, template + added)) is None


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(TURNS + BEGIN + BEGIN, id="twice in the template"),
        pytest.param(ALWAYS + BEGIN, id="always, and when it is asked for"),
    ],
)
def test_a_template_that_begins_the_answer_twice_is_found(qwen: Any, template: str) -> None:
    problem, _ = generation_prompt_fault(Processor(qwen, template)) or ("", "")
    assert problem == (
        "the chat template begins the answer twice: a prompt ends with '<|im_start|>assistant' two times"
    )


def test_arguments_of_the_template_count(qwen: Any) -> None:
    template = TURNS + "{% if add_generation_prompt and not old %}" + ASSISTANT + "{% endif %}"
    assert generation_prompt_fault(Processor(qwen, template), chat_template_kwargs={"old": False}) is None
    assert generation_prompt_fault(Processor(qwen, template), chat_template_kwargs={"old": True}) is not None
