"""How a chat template takes tools, and the tokens of what they answered.

In `tool` mode the template lists the tools and writes their results, images included, as messages of the tool. In
`user` mode it does not, and the list is a text in the prompt, calls are JSON between ``<tool_call>`` and
``</tool_call>``, and the results come in a message of the user. Rendering shows which mode applies.

Tokens of a turn are those that the template writes between the end of the model's message and the beginning of its
next one. They are put after the tokens that were sampled, and nothing is ever rendered a second time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from PIL import Image
from triptych_data import Example
from triptych_data.describe import unexpanded
from triptych_data.prompt_settings import PromptSettings
from triptych_parser import ImageSpan, MarkerError, Turn, tokenize

from triptych_trainer.errors import UsageError
from triptych_trainer.trajectories.messages import ToolsIn, bound, described, results_for_user, turn_of, with_tools
from triptych_trainer.trajectories.results import Piece

__all__ = ["Mode", "Suffix", "TurnWriter", "turn_writer"]

Mode = Literal["tool", "user"]
Results = Sequence[tuple[str, Sequence[Piece]]]
"""The name of each tool that was called, and what it returned."""
_TEXT, _SAID = "fzx", "wqv"
_NO_END = "it does not end the model's message with a token that ends sampling"
KNOWN = 64
"""How many turns a writer remembers."""
_TOOL = {
    "type": "function",
    "function": {"name": "qzj", "description": "", "parameters": {"type": "object", "properties": {}}},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Suffix:
    """Contains what follows a sampled message: the results of its calls, and the beginning of the next message."""

    ids: tuple[int, ...]
    spans: tuple[ImageSpan, ...]
    """The span of each image, counted from the suffix's first token."""
    short_ids: tuple[int, ...] = ()
    """The same with one placeholder per image, for an engine that expands them; empty where none was asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnWriter:
    """Writes turns by one chat template in one mode."""

    processor: Any
    settings: PromptSettings
    mode: Mode
    tools_in: ToolsIn
    """The message that contains the list of tools in `user` mode."""
    end_ids: frozenset[int]
    """Tokens that end a message of the model."""
    schemas: tuple[Mapping[str, Any], ...] = ()
    """The descriptions of the tools for the model."""
    writes_short: bool = False
    """Whether turns are also written as an engine next to the trainer takes them."""
    takes_images: bool = True
    """Whether results may contain images."""
    as_texts: bool = False
    """Whether the template takes the content of a message as a text, and not as a list of parts."""
    known: OrderedDict[Any, Any] = field(default_factory=OrderedDict, repr=False, compare=False)
    """What was written last, by what it was written of: rollouts of a group often get results of the same form."""

    def dressed(self, example: Example) -> Example:
        """Return an example with its list of tools, for the chat template or as text in a message."""
        if not self.schemas:  # an environment that only begins the prompt and scores the answer
            return example
        if self.mode == "tool":
            return replace(example, tools=self.schemas)
        return with_tools(example, self.schemas, place=self.tools_in)

    def suffix(self, results: Results, *, before: Sequence[Results] = (), where: str) -> Suffix:
        """Return the tokens of a turn's results.

        ``before`` are the results of the rollout's earlier turns: the template has to leave them as they were.

        Raises:
            UsageError: the template rewrites earlier turns, or does not write what the tool returned.
        """
        try:
            alone: Suffix = self._once("cut", [], results)
            if before and self._once("text", before, results) != self._once("text", [], results):
                raise _changed(where)
        except MarkerError as error:
            names = ", ".join(dict.fromkeys(f"`{name}`" for name, _ in results))
            raise UsageError(f"{where}: the chat template does not take what {names} returned: {error}") from error
        return alone

    def _once(self, what: Literal["cut", "text"], before: Sequence[Results], results: Results) -> Any:
        """Cut or render, or take what was made of results with the same texts and sizes of images."""
        key = (what, *(_form(turn) for turn in (*before, results)))
        if key not in self.known:
            self.known[key] = self._cut(before, results) if what == "cut" else self._rendered(before, results)
        self.known.move_to_end(key)
        while len(self.known) > KNOWN:
            self.known.popitem(last=False)
        return self.known[key]

    def _cut(self, before: Sequence[Results], results: Results) -> Suffix:
        history = self._history(before, results)
        prefix = list(self._tokenized(history, [], begin_next=False).ids)
        end = max((k for k, token in enumerate(prefix) if token in self.end_ids), default=None)
        if end is None:
            raise UsageError(self._no_end())
        shown = [piece for _, pieces in results for piece in pieces if isinstance(piece, Image.Image)]
        turns = [*history, *self._turns(results)]
        whole = self._tokenized(turns, shown, begin_next=True)
        short = self._tokenized(turns, shown, begin_next=True, is_short=True) if self.writes_short and shown else whole
        if any(list(found.ids[: end + 1]) != prefix[: end + 1] for found in (whole, short)):
            raise _changed("a message of a tool")
        first = end + 1
        return Suffix(
            ids=tuple(whole.ids[first:]),
            spans=tuple(_moved(span, by=-first) for span in whole.spans),
            short_ids=tuple(short.ids[first:]) if self.writes_short else (),
        )

    def _rendered(self, before: Sequence[Results], results: Results) -> str:
        """The text that the template writes after the model's last message, with these turns before it."""
        renderer = _renderer(self.processor)
        options = dict(self.settings.chat_template_kwargs)
        history = self._history(before, results)
        start = renderer.apply_chat_template(self._messages(history), tokenize=False, **options)
        tokenizer = getattr(self.processor, "tokenizer", self.processor)
        ends = [tokenizer.convert_ids_to_tokens(token) for token in sorted(self.end_ids)]
        cut = max((start.rfind(text) + len(text) for text in ends if text in start), default=0)
        if start.rfind(_SAID) > cut or _SAID not in start:
            raise UsageError(self._no_end())
        messages = self._messages([*history, *self._turns(results)])
        whole = renderer.apply_chat_template(messages, tokenize=False, **{"add_generation_prompt": True, **options})
        if not whole.startswith(start[:cut]):
            return f"{whole[:cut]} instead of {start[:cut]}"
        rest: str = whole[cut:]
        return rest

    def _no_end(self) -> str:
        tokenizer = getattr(self.processor, "tokenizer", self.processor)
        ends = ", ".join(map(str, tokenizer.convert_ids_to_tokens(sorted(self.end_ids))))
        return f"{_NO_END} ({ends})"

    def _history(self, before: Sequence[Results], results: Results) -> list[Turn]:
        """A conversation with such turns up to the message with the calls; the model's words in it do not matter."""
        turns = [turn_of("user", ["x"])]
        for earlier in before:
            turns += [self._spoken(earlier), *self._turns(earlier)]
        return [*turns, self._spoken(results)]

    def _messages(self, turns: Sequence[Turn]) -> list[dict[str, Any]]:
        messages = bound(turns).messages()
        if not self.as_texts:
            return messages
        return [
            {**message, "content": "".join(part["text"] for part in message["content"])}
            if "content" in message
            else message
            for message in messages
        ]

    def _spoken(self, results: Results) -> Turn:
        if self.mode == "user":
            return turn_of("assistant", [_SAID])
        calls = [{"type": "function", "function": {"name": name, "arguments": {}}} for name, _ in results]
        return turn_of("assistant", [_SAID], tool_calls=calls)

    def _turns(self, results: Results) -> list[Turn]:
        if self.mode == "user":
            return [turn_of("user", results_for_user(results))]
        return [turn_of("tool", pieces, name=name) for name, pieces in results]

    def _tokenized(
        self, turns: Sequence[Turn], shown: Sequence[Image.Image], *, begin_next: bool, is_short: bool = False
    ) -> Any:
        known: dict[str, Any] = {"image_sizes": [(picture.height, picture.width) for picture in shown]}
        if is_short:
            known = unexpanded(self.processor, num_images=len(shown))
        return tokenize(
            bound(turns),
            self.processor,
            **known,
            chat_template_images=self.settings.chat_template_images,
            chat_template_kwargs={**self.settings.chat_template_kwargs, "add_generation_prompt": begin_next},
        )

    def check(self) -> str | None:
        """Return the reason why the template does not take tools in this mode, or None if it does."""
        shown = [Image.new("RGB", (56, 56))] if self.takes_images else []
        results: Results = [("qzj", [_TEXT, *shown])]
        try:
            if self.mode == "tool":
                options = {**self.settings.chat_template_kwargs, "tools": [_TOOL]}
                asked = self._messages([turn_of("user", ["x"])])
                if "qzj" not in _renderer(self.processor).apply_chat_template(asked, tokenize=False, **options):
                    return "it does not list the tools"
            else:
                prompt = [turn_of("system", [described(self.schemas)])] if self.tools_in == "system" else []
                self._tokenized([*prompt, turn_of("user", ["x"])], [], begin_next=True)
            ids = list(self._cut([], results).ids)
            written = self._rendered([], results)
            again = self._rendered([results], results)
        except Exception as error:  # a chat template is a program of its own, and may fail in any way
            return " ".join(str(error).split())
        tokenizer = getattr(self.processor, "tokenizer", self.processor)
        if _TEXT not in written or _TEXT not in tokenizer.decode(ids):
            return "it does not write what a tool returned"
        return None if written == again else "it rewrites earlier turns when another one follows"


def turn_writer(
    processor: Any,
    *,
    settings: PromptSettings,
    schemas: Sequence[Mapping[str, Any]],
    end_ids: Collection[int],
    reads_calls: bool,
    writes_short: bool = False,
) -> TurnWriter:
    """Find out how the chat template takes tools.

    ``reads_calls`` says whether the tokenizer has a response template, by which calls of `tool` mode are read;
    ``writes_short`` whether an engine next to the trainer goes on with rollouts.

    Raises:
        UsageError: it takes them in no mode; says why for each.
    """
    listing = _with_kwargs(settings, tools=[dict(schema) for schema in schemas])
    common: dict[str, Any] = {
        "processor": processor,
        "end_ids": frozenset(end_ids),
        "schemas": tuple(schemas),
        "writes_short": writes_short,
        "takes_images": getattr(processor, "image_processor", None) is not None,
    }
    ways: dict[str, dict[str, Any]] = {
        "tool": {"settings": listing, "mode": "tool", "tools_in": "system"},
        "a list in the system message": {"settings": settings, "mode": "user", "tools_in": "system"},
        "a list in the user message": {"settings": settings, "mode": "user", "tools_in": "user"},
    }
    reasons: dict[str, str] = {}
    for name, way in ways.items():
        if name == "tool" and not reads_calls:
            reasons[name] = "the tokenizer has no response template to read calls by"
            continue
        for as_texts in (False,) if common["takes_images"] else (False, True):
            writer = TurnWriter(**common, **way, as_texts=as_texts)
            reason = writer.check()
            if reason is None:
                return writer
            reasons[name] = reason
    found = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    kind = "tools that return images" if common["takes_images"] else "tools"
    remedy = "set another chat template"
    if any(reason.startswith(_NO_END) for reason in reasons.values()):
        remedy = "add the token with which it ends a message to eos_token_id in generation_config.json"
    raise UsageError(f"the chat template of {type(processor).__name__} takes no {kind} ({found}); {remedy}")


def _form(results: Results) -> Any:
    """What the tokens of a turn depend on: names, texts, and the sizes of images."""
    return tuple(
        (name, tuple(piece if isinstance(piece, str) else piece.size for piece in pieces)) for name, pieces in results
    )


def _with_kwargs(settings: PromptSettings, **more: Any) -> PromptSettings:
    return replace(settings, chat_template_kwargs={**settings.chat_template_kwargs, **more})


def _renderer(processor: Any) -> Any:
    """The object that renders messages: the processor, or its tokenizer if only the tokenizer has a chat template."""
    own = getattr(processor, "chat_template", None) is not None
    return processor if own else getattr(processor, "tokenizer", processor)


def _moved(span: ImageSpan, *, by: int) -> ImageSpan:
    runs = tuple((start + by, length) for start, length in span.runs)
    return ImageSpan(start=span.start + by, length=span.length, image=span.image, runs=runs)


def _changed(where: str) -> UsageError:
    return UsageError(
        f"{where}: the chat template writes the earlier messages differently once another one follows, so that the "
        "tokens that were sampled would not be those of the conversation; pass a chat template that keeps them"
    )
