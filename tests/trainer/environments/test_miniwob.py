"""Pages of MiniWoB++, the real ones, in a real Chromium."""

import importlib.util
import shutil
import time

import numpy as np
import pytest
from triptych_trainer.environments.miniwob import MiniWobEnvironment
from triptych_trainer.errors import UsageError
from triptych_trainer.trajectories.environments import Environments

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("miniwob") is None, reason="miniwob is not installed: `make env-check`"
    ),
    pytest.mark.skipif(
        not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
        reason="no chromium on this machine: install it to test the pages of MiniWoB++",
    ),
]
BUTTON = (
    "name => {const r = document.querySelector(name).getBoundingClientRect(); return [r.x, r.y, r.width, r.height]}"
)


@pytest.fixture(scope="module")
def environments():
    return Environments(MiniWobEnvironment)


def middle(environment, name):
    """The middle of a part of the page, in thousandths."""
    x, y, width, height = environment._page.evaluate(BUTTON, name)
    return (x + width / 2) / 160 * 1000, (y + height / 2) / 210 * 1000


def pixels(parts):
    (picture,) = [part["image"] for part in parts if part["type"] == "image"]
    return np.asarray(picture)


def test_a_page_is_shown_enlarged_and_clicks_find_its_buttons(environments):
    one, other = pair = environments.take(2)
    assert list(environments.tools(one)) == ["click", "drag", "press", "write"]
    picture, text = environments.reset(pair, {"task": "click-test-2", "seed": 3}, where="rows.jsonl:1")
    assert picture.size == (320, 420)
    assert np.array_equal(np.asarray(picture)[::2, ::2], np.asarray(picture)[1::2, 1::2])
    assert text == "Click button ONE.\nx and y are in thousandths of the picture's width and height."
    assert (one.done, one.get_reward()) == (False, -1.0)
    one.click(2, 990)
    assert not one.done, "nothing is there"
    right, wrong = one.click(*middle(one, "#subbtn")), other.click(*middle(other, "#subbtn2"))
    assert right[1]["text"] == wrong[1]["text"] == "The page is finished."
    assert (one.done, one.get_reward(), other.get_reward()) == (True, 1.0, -1.0)
    with pytest.raises(ValueError, match="the page is finished"):
        one.click(500, 500)
    again, _ = environments.reset(pair, {"task": "click-test-2", "seed": 4}, where="rows.jsonl:2")
    assert (one.done, one.get_reward()) == (False, -1.0)
    assert not np.array_equal(np.asarray(again), np.asarray(picture)), "the seed moves the buttons"


def test_a_slow_model_gets_the_same_reward(environments):
    """The page itself ends an episode after ten seconds, and takes off reward for each of them."""
    (one,) = environments.take(1)
    one.reset("click-test-2", 1)
    one._page.clock.run_for(30_000)
    time.sleep(0.2)
    one.click(*middle(one, "#subbtn"))
    assert (one.done, one.get_reward()) == (True, 1.0)


def test_writing_and_keys_reach_the_page(environments):
    (one,) = environments.take(1)
    asked = one.reset("enter-text", 5)[1]["text"]
    word = asked.split('"')[1]
    one.click(*middle(one, "#tt"))
    one.write(word[:-1])
    one.write("x")
    one.press("Backspace")
    one.write(word[-1])
    one.click(*middle(one, "#subbtn"))
    assert (one.done, one.get_reward()) == (True, 1.0)


def test_dragging_changes_the_page(environments):
    (one,) = environments.take(1)
    before = pixels(one.reset("drag-box", 1))
    left, top = middle(one, "#draggableSmall")
    after = pixels(one.drag(left, top, min(left + 150, 900), min(top + 100, 900)))
    assert not np.array_equal(before, after)


def test_pixels_of_the_enlarged_picture_are_mapped_back():
    class Pixels(MiniWobEnvironment):
        enlarge = 3
        frame = "pixels"

    one = Pixels()
    assert one.reset("click-test-2", 1)[1]["text"].endswith("x and y are in pixels of the picture.")
    x, y = middle(one, "#subbtn")
    one.click(x / 1000 * 480, y / 1000 * 630)
    assert one.get_reward() == 1.0
    one.reset("click-test-2", 1)
    with pytest.raises(ValueError, match="x must lie within 0 and 480 and y within 0 and 630, got 481 and 5"):
        one.click(481, 5)


def test_what_is_wrong_with_a_call_is_text_for_the_model(environments):
    (one,) = environments.take(1)
    one.reset("click-test-2", 1)
    with pytest.raises(ValueError, match="x must lie within 0 and 1000 and y within 0 and 1000, got 1001 and 3"):
        one.click(1001, 3)
    with pytest.raises(ValueError, match="there is no key 'Nokey'"):
        one.press("Nokey")
    assert not one.done


def test_rows_without_their_columns_and_unknown_pages_are_refused():
    with pytest.raises(
        UsageError, match=r"there is no page 'click-me'; there are 130, from ascending-numbers to visual"
    ):
        MiniWobEnvironment().reset("click-me", 1)
    with pytest.raises(UsageError, match="there is no page '../core/core'"):
        MiniWobEnvironment().reset("../core/core", 1)
    with pytest.raises(UsageError, match="the row has no column 'task'; give every row `task`"):
        MiniWobEnvironment().reset(seed=1)


def test_pages_reach_this_machine_only(environments):
    class Far(MiniWobEnvironment):
        server = "http://pages.example/miniwob/"

    with pytest.raises(UsageError, match="expected a page server of this machine, got http://pages.example/miniwob/"):
        Far().reset("click-test", 1)
    (one,) = environments.take(1)
    one.reset("click-test", 1)
    assert (
        one._page.evaluate("() => fetch('http://pages.example/').then(() => 'reached', () => 'refused')") == "refused"
    )
