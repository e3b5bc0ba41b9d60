"""Environments as users write them: what is a tool, and what is refused before a run."""

import asyncio
import functools

import pytest
from PIL import Image
from triptych_trainer.errors import UsageError
from triptych_trainer.trajectories.environments import Environments, is_done, rewards_of


class Screen:
    """A screen that opens with a picture."""

    def reset(self, seed):
        return Image.new("RGB", (4, 4), (seed, 0, 0))


class Ends(Screen):
    """Says by a method that it is over."""

    def done(self):
        return False


class Pair(Screen):
    """Returns what Gymnasium returns."""

    def reset(self, seed):
        return super().reset(seed), {"info": 1}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Ends, r"^--environment: Ends\.done is a method, which is always true; make it an attribute or a prop"),
        (
            Pair,
            r"^a\.jsonl:1: `reset` of Pair: part 2 of what it returned is of class dict, neither text nor an image",
        ),
    ],
)
def test_what_could_only_go_wrong_later_is_refused(kind, words):
    def begin():
        environments = Environments(kind)
        environments.reset(environments.take(2), {"seed": 1}, where="a.jsonl:1")

    with pytest.raises(UsageError, match=words):
        begin()


def test_decorated_methods_and_class_methods_are_tools():
    class Phone(Screen):
        @functools.lru_cache  # noqa: B019
        def wait(self) -> str:
            """Wait."""

        @classmethod
        def model(cls) -> str:
            """Name the phone."""
            return cls.__name__

        @staticmethod
        def _helper() -> None: ...

    environments = Environments(Phone)
    tools = environments.tools(environments.take(1)[0])
    assert list(tools) == ["model", "wait"]
    assert tools["model"].call() == "Phone"


def test_reset_may_be_a_coroutine_and_shares_its_loop_with_the_tools():
    class Page:
        async def reset(self, seed):
            self.loop = asyncio.get_running_loop()
            return f"page {seed}"

        async def tap(self) -> bool:
            """Tap."""
            return asyncio.get_running_loop() is self.loop

    from triptych_trainer.trajectories.async_loop import tool_loop

    environments = Environments(Page)
    pages = environments.take(2)
    assert environments.reset(pages, {"seed": 3}, where="a.jsonl:1") == ["page 3"]
    assert tool_loop.gather([page.tap() for page in pages], timeout_seconds=5) == [True, True]


def test_what_is_awaited_too_long_ends_the_run_with_one_sentence():
    class Asleep:
        async def reset(self):
            await asyncio.sleep(9)

        async def get_reward(self):
            await asyncio.sleep(9)

    environments = Environments(Asleep, seconds=0.02)
    pages = environments.take(1)
    with pytest.raises(UsageError, match=r"`reset` of Asleep failed: TimeoutError: no answer within 0.02 seconds"):
        environments.reset(pages, {}, where="a.jsonl:1")
    (reward,) = rewards_of(environments)
    with pytest.raises(UsageError, match=r"`get_reward` of Asleep failed: TimeoutError: no answer within 0.02 sec"):
        reward(environments=pages)


class Ends:
    @property
    def done(self):
        return self.lost  # an attribute that nobody has set


class EndsLater:
    def tap(self):
        self.done = True


def test_a_property_that_cannot_say_whether_the_rollout_has_ended_is_named():
    with pytest.raises(UsageError, match=r"row 1: rollout 2: `done` of Ends .*lost.*property that is true at the end"):
        is_done(Ends(), where="row 1: rollout 2")
    later = EndsLater()
    assert not is_done(later, where="row 1")
    later.tap()
    assert is_done(later, where="row 1")
    assert not is_done(None, where="row 1")
