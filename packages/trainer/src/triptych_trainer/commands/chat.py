"""``triptych chat MODEL``: ask a model about several images, on a page of this machine."""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from triptych_data import ImageLoader
from triptych_data.option_parser import collected
from triptych_data.options import DataOptions, ModelOptions, TemplateOptions, prompt_settings

from triptych_trainer.chat.answer import Answerer
from triptych_trainer.chat.question import read_question
from triptych_trainer.chat.server import ChatServer
from triptych_trainer.commands.light_checks import check_chat
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.commands.sampled import generation_config, model_to_sample
from triptych_trainer.errors import UsageError
from triptych_trainer.evaluation.sampling import Sampling, sampling_of_model
from triptych_trainer.models.families import family_of, use_own_family
from triptych_trainer.models.load import chosen_processor
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.options.chat_options import ChatOptions, parser
from triptych_trainer.prompts.prepare import PromptPreparer

__all__ = ["chat_server", "main"]


def main(argv: Sequence[str]) -> int:
    """Serve the page until Ctrl-C; return 2 after one line that says what is wrong."""
    return outcome("triptych chat", lambda: _run(parser().parse_args(list(argv))))


def _run(namespace: argparse.Namespace) -> int:
    from triptych_trainer.upstream.quiet import quiet_libraries

    quiet_libraries()
    with ImageLoader() as loader, chat_server(namespace, loader) as server:
        print(f"chat with {namespace.model}: {server.address}   (Ctrl-C ends it)", flush=True)
        server.serve_forever()
    return 0


def chat_server(namespace: argparse.Namespace, loader: ImageLoader) -> ChatServer:
    """Load the model, and return the server of its page.

    Raises:
        UsageError: the model cannot be loaded, or the port is taken.
    """
    check_chat(namespace)
    options, loading = collected(ChatOptions, namespace), collected(ModelOptions, namespace)
    prompt = collected(TemplateOptions, namespace)
    use_own_family(options.family)
    processor = chosen_processor(namespace.model, loading, prompt, option="MODEL")
    model = model_to_sample(namespace.model, loading, dtype=options.dtype, option="MODEL")
    preparer = PromptPreparer(
        processor,
        loader=loader,
        family=family_of(unwrap(model)),
        settings=prompt_settings(DataOptions(), prompt),
        keep=1,
    )
    answerer = Answerer(preparer=preparer, sampling_for=_sampling_of(model, preparer, options))

    def answer(body: bytes) -> dict[str, Any]:
        question = read_question(
            body, temperature=options.temperature, max_completion_length=options.max_completion_length
        )
        return answerer.answer(question)

    parts = {
        "title": namespace.model,
        "temperature": f"{options.temperature:g}",
        "most_tokens": str(options.max_completion_length),
    }
    try:
        return ChatServer(port=options.port, answer=answer, parts=parts)
    except OSError as error:
        raise UsageError(f"--port {options.port}: {error.strerror}; name another, or 0 for any that is free") from error


def _sampling_of(model: torch.nn.Module, preparer: PromptPreparer, options: ChatOptions) -> Any:
    to_verify = [options.verify_model != "off"]

    def sampling_for(asked: Any) -> Sampling:
        verify, to_verify[0] = to_verify[0], False
        generation = generation_config(preparer.processor, model.generation_config, asked)
        return sampling_of_model(model, preparer, generation=generation, verify_model=verify)

    return sampling_for
