import pytest
from triptych_trainer.rewards import cosine_length_reward, length_reward, load_reward


def score(reward, tokens, text="red", answer="red"):
    return reward([text], completion_ids=[[0] * tokens], answer=[answer])[0]


@pytest.mark.parametrize(("tokens", "value"), [(0, -1), (9, -1), (10, 0), (80, 0), (85, -0.25), (100, -1), (101, -1)])
def test_length(tokens, value):
    reward = load_reward("length(max_tokens=100, buffer_tokens=20, min_tokens=10)")
    assert score(reward, tokens) == pytest.approx(value)


@pytest.mark.parametrize(("tokens", "value"), [(0, 0), (100, 0), (101, -1)])
def test_length_without_a_buffer_is_a_step(tokens, value):
    assert score(length_reward(max_tokens=100), tokens) == value


def test_length_options_are_checked():
    with pytest.raises(ValueError, match="got min_tokens=90, max_tokens=100, buffer_tokens=20"):
        length_reward(max_tokens=100, buffer_tokens=20, min_tokens=90)
    with pytest.raises(ValueError, match=r"reward 'length' needs max_tokens; write length\(max_tokens=\.\.\.\)"):
        load_reward("length")


@pytest.mark.parametrize(
    ("tokens", "right", "wrong"), [(0, 1.0, -1.0), (50, 0.75, -0.75), (100, 0.5, -0.5), (101, -1.0, -1.0)]
)
def test_cosine_length(tokens, right, wrong):
    reward = cosine_length_reward(max_tokens=100)
    assert score(reward, tokens) == pytest.approx(right)
    assert score(reward, tokens, text="<answer>unfinished") == pytest.approx(wrong)


def test_cosine_length_uses_the_mode_and_checks_its_options():
    assert score(cosine_length_reward(max_tokens=10, mode="numeric"), 0, text="3.0", answer="3") == 1.0
    with pytest.raises(ValueError, match="expected max_tokens >= 1, got 0"):
        cosine_length_reward(max_tokens=0)


def test_lengths_need_the_tokens():
    with pytest.raises(ValueError, match="need completion_ids"):
        length_reward(max_tokens=10)(["x"])
