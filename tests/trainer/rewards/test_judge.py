"""The judge against a real HTTP server on this machine."""

import asyncio
import base64
import inspect
import io
import sys
import threading

import pytest
from judge_server import ChatServer, judge, reply, row
from PIL import Image
from triptych_trainer.errors import UsageError
from triptych_trainer.rewards import (
    ImageInfo,
    Judge,
    JudgeError,
    RewardError,
    Row,
    accuracy_reward,
    guarded,
    judge_reward,
    load_reward,
)
from triptych_trainer.rewards.judge import question_text, read_score


@pytest.fixture
def server():
    with ChatServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_the_question_the_reference_and_the_answer_are_asked(server):
    assert judge(server).score([row()]) == [1.0]
    ((path, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert (body["model"], body["temperature"]) == ("grader", 0)
    text = body["messages"][0]["content"]
    assert "[image 1] which colour {here}?" in text
    assert "<reference>\nred\n</reference>" in text
    assert "<answer>\ncrimson\n</answer>" in text


def test_an_unfinished_completion_is_not_asked(server):
    assert judge(server).score([row(text="<answer>cri")]) == [0.0]
    assert server.requests == []


def test_the_same_question_is_asked_once_and_kept_on_disk(server, tmp_path):
    panel = judge(server, cache_dir=tmp_path)
    assert panel.score([row(), row(example_id="s2"), row(text="blue")]) == [1.0, 1.0, 1.0]
    assert len(server.requests) == 2
    server.plan = lambda number, prompt: (500, "", {})
    assert judge(server, cache_dir=tmp_path).score([row()]) == [1.0]
    assert len(server.requests) == 2
    assert [path.suffix for path in tmp_path.rglob("*.*")] == [".json", ".json"]


def test_another_model_does_not_share_the_cache(server, tmp_path):
    judge(server, cache_dir=tmp_path).score([row()])
    judge(server, cache_dir=tmp_path, model="other").score([row()])
    assert len(server.requests) == 2


def test_a_damaged_cache_entry_is_asked_again(server, tmp_path):
    judge(server, cache_dir=tmp_path).score([row()])
    (entry,) = tmp_path.rglob("*.json")
    entry.write_text("{half")
    assert judge(server, cache_dir=tmp_path).score([row()]) == [1.0]
    assert len(server.requests) == 2


def test_a_busy_server_is_asked_again(server):
    server.plan = lambda number, prompt: (
        (429, "busy", {"Retry-After": "0.01"}) if number < 3 else (200, reply('{"score": 0.5}'), {})
    )
    assert judge(server).score([row()]) == [0.5]
    assert len(server.requests) == 3


@pytest.mark.slow
def test_a_server_that_is_too_slow_is_named(server):
    release = threading.Event()

    def slow(number, prompt):
        release.wait(5)
        return 200, reply("1"), {}

    server.plan = slow
    panel = judge(server, timeout_seconds=0.1, retries=1)
    with pytest.raises(
        JudgeError, match=r"sample s1 \(f:1\): judge 'grader' at .* gave no reply in 2 attempts of 0.1 s"
    ):
        panel.score([row()])
    release.set()
    assert len(server.requests) == 2


def test_a_refusal_is_not_repeated(server):
    server.plan = lambda number, prompt: (401, "no key", {})
    with pytest.raises(JudgeError, match=r"refused the request, status 401: no key; check .* \$OPENAI_API_KEY"):
        judge(server).score([row()])
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_named():
    panel = Judge(url="http://127.0.0.1:9", model="grader", retries=0)
    with pytest.raises(JudgeError, match="gave no reply in 1 attempts .* is the server up"):
        panel.score([row()])


def test_another_kind_of_server_is_named(server):
    server.plan = lambda number, prompt: (200, "<html>hello", {})
    with pytest.raises(JudgeError, match=r"sent no choices\[0\].message.content: '<html>hello'"):
        judge(server).score([row()])


def test_a_reply_without_a_score_fails_and_is_not_kept(server, tmp_path):
    server.plan = lambda number, prompt: (200, reply("I cannot say"), {})
    with pytest.raises(JudgeError, match="replied 'I cannot say'; expected"):
        judge(server, cache_dir=tmp_path).score([row()])
    assert list(tmp_path.rglob("*.json")) == []


def test_failures_may_be_skipped_with_a_warning(server):
    server.plan = lambda number, prompt: (400, "bad", {}) if "blue" in prompt else (200, reply("1"), {})
    with pytest.warns(RuntimeWarning, match=r"sample s2 \(f:1\): left unscored"):
        assert judge(server, on_failure="skip").score([row(), row(text="blue", example_id="s2")]) == [1.0, None]


def test_questions_run_side_by_side_up_to_the_limit(server):
    three = threading.Barrier(3)  # passes only when three questions are under way at once

    def wait_for_two_more(number, prompt):
        three.wait(timeout=30)
        return 200, reply("1"), {}

    server.plan = wait_for_two_more
    assert judge(server, concurrency=3).score([row(text=f"answer {k}") for k in range(9)]) == [1.0] * 9
    assert server.most_busy == 3


def test_the_key_comes_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("GRADER_KEY", "secret")
    panel = judge(server, api_key_env="GRADER_KEY")
    panel.score([row()])
    assert server.authorizations == ["Bearer secret"]
    assert "secret" not in repr(panel)


def test_the_reward_is_async_as_trl_wants_it(server):
    reward = load_reward(f'judge(url="{server.url}", model="grader")')
    assert inspect.iscoroutinefunction(reward)
    assert reward.__name__ == "judge"
    assert asyncio.run(reward(["crimson", "<answer>"], prompts=["q", "q"], answer=["red", "red"])) == [1.0, 0.0]


def test_accuracy_asks_the_judge_for_the_samples_that_want_it(server):
    server.plan = lambda number, prompt: (200, reply('{"score": 0.75}'), {})
    reward = accuracy_reward(judge={"url": server.url, "model": "grader"})
    scores = reward(["a", "3", "b"], answer=["x", "3", "y"], accu_reward_method=["llm", "numeric", "judge"])
    assert scores == [0.75, 1.0, 0.75]
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"score": 1}', 1.0),
        ('Sure: ```{"score": 0.25, "why": "x"}```', 0.25),
        ('{"score": "0.5"}', 0.5),
        (" 1 ", 1.0),
        ("0.0", 0.0),
        ('{"score": 7}', None),
        ("7", None),
        ("yes", None),
        ("", None),
    ],
)
def test_reading_a_score(text, score):
    assert read_score(text) == score


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (None, ""),
        ("plain", "plain"),
        (
            [
                {"role": "user", "content": "one"},
                {"role": "assistant", "content": "x"},
                {"role": "user", "content": "two"},
            ],
            "two",
        ),
        ([{"role": "system", "content": "s"}], ""),
        (
            [
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "one"}]},
                {"role": "user", "content": [{"type": "text", "text": "and "}, {"type": "image"}]},
            ],
            "and [image 2]",
        ),
    ],
)
def test_the_question_of_each_kind_of_prompt(prompt, text):
    assert question_text(prompt) == text


def picture(index, colour, *places):
    whole = Image.new("RGB", (4, 3), colour)
    return ImageInfo(index=index, width=4, height=3, places=places, pixels=lambda size: whole)


def test_a_judge_that_sees_gets_every_image_under_the_number_that_the_question_has(server):
    """The second image of the record is the first that the prompt shows."""
    parts = [{"type": "image"}, {"type": "text", "text": " or "}, {"type": "image"}, {"type": "image"}]
    images = (picture(0, "red", 1), picture(1, "blue", 0, 2))
    asked = Row(
        text="<answer>a</answer>", answer="b", images=images, prompt=[{"role": "user", "content": parts}], source="f:1"
    )
    assert judge(server, images=True).score([asked, asked]) == [1.0, 1.0]
    ((_, body),) = server.requests
    text, *shown = body["messages"][0]["content"]
    assert "[image 2] or [image 1][image 2]" in text["text"]
    assert "The images follow this text" in text["text"]
    assert [part["text"] for part in shown[::2]] == ["[image 1]", "[image 2]"]
    for part, colour in zip(shown[1::2], [(255, 0, 0), (0, 0, 255)], strict=True):
        head, _, data = part["image_url"]["url"].partition(",")
        sent = Image.open(io.BytesIO(base64.b64decode(data)))
        assert (head, sent.size, sent.getpixel((0, 0))) == ("data:image/png;base64", (4, 3), colour)


def test_a_judge_without_its_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UsageError, match=r"pip install 'triptych-trainer\[judge\]'"):
        judge_reward(url="http://x", model="m")


def test_options_are_checked():
    with pytest.raises(ValueError, match="expected on_failure 'raise' or 'skip', .* got 'ignore', 8 and 3"):
        judge_reward(url="http://x", model="m", on_failure="ignore")


def test_a_guarded_judge_that_fails_is_not_asked_again_row_by_row(server):
    server.plan = lambda number, prompt: (400, "bad", {})
    reward = guarded(judge_reward(url=server.url, model="grader"))
    with pytest.raises(RewardError, match=r"reward 'judge': sample s1: judge 'grader' at .* refused the request"):
        asyncio.run(reward(completions=["a", "a"], answer=["x", "x"], example_id=["s1", "s2"]))
    assert len(server.requests) == 1


def test_what_a_judge_sends_does_not_reach_the_terminal_as_it_is(server):
    server.plan = lambda number, prompt: (400, "\x1b[2Jno", {})
    with pytest.warns(RuntimeWarning, match=r"left unscored: .*\\x1b\[2Jno"):
        assert judge(server, on_failure="skip").score([row()]) == [None]
