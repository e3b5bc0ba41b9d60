"""Trajectories in a real browser: a newcomer sees in which turn, and on which image, a rollout went wrong."""

from dataclasses import replace

import pytest
from made_up import played, prepared, scored
from PIL import Image
from played_runs import example, write_played_run
from triptych_trainer.report import build_report
from triptych_trainer.rollouts.write import RolloutWriter

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    return build_report(write_played_run(tmp_path_factory.mktemp("played") / "run"))


def test_a_strip_shows_where_a_rollout_went_wrong(open_page, page_file):
    page = open_page(page_file)
    wrong = page.locator(".completion").nth(1)
    assert wrong.locator(".pick").inner_text().endswith("3 turns · 2 calls · 1 new image · 1 failed")
    cells = wrong.locator(".cell")
    assert cells.evaluate_all("all => all.map(one => one.classList.contains('troubled'))") == [True, True, False]
    assert cells.nth(0).locator(".trouble").all_inner_texts() == ["its box on image 1 does not meet the expected one"]
    assert cells.nth(1).locator(".trouble").all_inner_texts() == [
        "zoom failed: there is no image 9; there are images 1 to 3",
        "reward −0.20",
    ]
    assert cells.nth(0).locator(".asked-of figcaption").inner_text() == "asked of image 1"
    image = cells.nth(0).locator(".asked-of img").bounding_box()
    box = cells.nth(0).locator(".asked-of rect.call").bounding_box()
    scale = image["width"] / 200
    assert box["x"] - image["x"] == pytest.approx(120 * scale, abs=3)
    assert box["width"] == pytest.approx(70 * scale, abs=4)
    assert cells.nth(0).locator(".arrived figcaption").inner_text() == "image 3 · 120 × 120 px"
    notes = wrong.locator(".notes .bad").all_inner_texts()
    assert notes[0] == "turn 1: its box on image 1 does not meet the expected one"
    assert (
        'says “[130, 30, 180, 80] in image 1” about image 1; expected “{"bbox_2d": [20, 20, 60, 60], "image": 1}”'
        in notes
    )
    right = page.locator(".completion").nth(0)
    assert right.locator(".troubled").count() == 0
    mention = right.locator(".cell").nth(1).locator(".mention")
    mention.hover()
    assert right.locator(".arrived.pointed").count() == 1
    assert wrong.locator(".arrived.pointed").count() == 0, "the third image of another rollout is another one"
    over, cut = page.locator(".completion").nth(2), page.locator(".completion").nth(3)
    assert (
        over.locator(".cell").nth(1).locator(".trouble").inner_text() == "repeats the call of turn 1, and got the same"
    )
    assert over.locator(".cell").nth(2).locator(".trouble").inner_text().startswith("over-turn: this call came after")
    assert cut.locator(".trouble").inner_text().startswith("cut here: what the tools returned did not fit")


def test_choices_leave_the_completions_that_fit(open_page, page_file):
    page = open_page(page_file)
    assert page.locator(".chart").count() == 7
    assert page.locator("#went-wrong").bounding_box()["y"] < 900, "what went wrong is on the first screen"
    numbers = page.locator(".completion .number")
    for name, value, kept in [
        ("Show", "trouble", ["2", "3", "4"]),
        ("Show", "failing", ["2"]),
        ("Show", "over", ["3"]),
        ("Show", "short", ["4"]),
        ("Calls", "1", ["1", "4"]),
        ("Calls", "2", ["2", "3"]),
    ]:
        page.get_by_label(name, exact=True).select_option(value)
        assert numbers.all_inner_texts() == kept, value
        assert page.locator(".aside-note").inner_text().startswith(f"Shown: the {len(kept)} of 4 completions")
        page.get_by_label(name, exact=True).select_option({"Show": "all", "Calls": ""}[name])
    assert numbers.count() == 4
    ways = page.locator("#went-wrong button")
    assert page.locator("#went-wrong").inner_text().startswith("4 rollouts:")
    assert ways.all_inner_texts() == [
        *(
            "3 × wrong, shown with their groups",
            "3 × wrong, shown alone",
            "3 × a turn went wrong",
            "1 × a tool failed",
            "1 × over-turn",
            "1 × cut by length or room",
        ),
    ]
    ways.nth(3).click()
    assert numbers.all_inner_texts() == ["2"]
    ways.nth(1).click()
    assert numbers.all_inner_texts() == ["2", "3", "4"]


def test_a_wrong_rollout_without_a_failure_is_compared_with_the_right_ones(open_page, tmp_path):
    """Where nothing failed, the turn is shown in which it first does something else, and the image before it."""
    red, blue = (Image.new("RGB", (40, 40), colour) for colour in ("red", "blue"))
    looks = [{"name": "look", "arguments": {"box": k}} for k in (1, 2)]
    first = {"said": "", "calls": [looks[0]], "returned": [[red]]}
    played_ones = [
        played(first, {"said": "", "calls": [looks[1]], "returned": [[blue]]}, {"said": "blue"}),
        played(first, {"said": "red"}),
        played({"said": "", "calls": [looks[1]], "returned": [[blue]]}, {"said": "blue"}),
        played(first, {"said": "", "calls": [looks[1]], "returned": [[blue]]}, {"said": "red"}),
    ]
    prompt = prepared(example(), model_size=(100, 200), decoded=(100, 200))
    scores = {"accuracy": [1.0, 0.0, 0.0, 0.0]}
    one = scored(prompt, played_ones, rewards=scores, advantages=[0.5, -0.5, -0.5, -0.5])
    RolloutWriter(tmp_path).record([one], step=1, mode="train")
    page = open_page(build_report(tmp_path))
    found = []
    for k in range(4):
        cells = page.locator(".completion").nth(k).locator(".cell")
        marked = cells.evaluate_all("all => all.map(one => one.classList.contains('departs'))")
        found.append((marked.index(True) if True in marked else None, cells.locator(".hint").all_inner_texts()))
    assert found == [
        (None, []),
        (1, ["from here on it differs from completion 1, which asked for look box 2: look at image 3"]),
        (0, ["from here on it differs from completion 1, which asked for look box 1: look at what the prompt shows"]),
        (
            2,
            [
                "every turn asks for the same and gets the same as completion 1, and the answer is another one: "
                "look at image 4"
            ],
        ),
    ]
    line = " ".join(page.locator("#went-wrong").inner_text().split())
    assert line == (
        "4 rollouts: 3 × wrong, shown with their groups 3 × wrong, shown alone none by a turn that failed: the foot "
        "of each says where to look."
    )
    link = page.locator(".completion").nth(3).locator(".hint .mention")
    assert link.inner_text() == "image 4"
    link.click()
    pointed = page.locator(".marker.pointed")
    assert pointed.count() == 1, "completion 1 has an image 4 of its own"
    assert pointed.get_attribute("data-image") == "3"
    assert pointed.evaluate("figure => figure.closest('.completion').dataset.completion") == "3"
    assert pointed.evaluate("figure => figure.getBoundingClientRect().top < innerHeight"), "it was brought into view"
    note = page.locator(".completion").nth(1).locator(".notes .bad").first.inner_text()
    assert note.startswith("wrong, and no turn failed by the record; turn 2: from here on it differs")


def test_a_wrong_rollout_is_not_blamed_for_what_a_guess_left_out_or_for_a_repetition(open_page, tmp_path):
    red, blue = (Image.new("RGB", (40, 40), colour) for colour in ("red", "blue"))
    first, second = (
        {"said": "", "calls": [{"name": "look", "arguments": {"box": k}}], "returned": [[image]]}
        for k, image in ((1, red), (2, blue))
    )
    right, wrong, bare = "<answer>blue</answer>", "<answer>red</answer>", "blue</answer>"
    told = [
        ([right], [first, wrong], [bare], [wrong]),  # only a guess was right
        ([first, right], [right], [first, first, wrong], [second, first, right], [first, bare]),
    ]
    one_turn = {str: lambda text: {"said": text}, dict: lambda turn: turn}
    groups = []
    for rollouts in told:
        prompt = prepared(example(), model_size=(100, 200), decoded=(100, 200))
        ones = [played(*[one_turn[type(turn)](turn) for turn in turns]) for turns in rollouts]
        accuracy = [float(turns[-1] == right) for turns in rollouts]
        groups.append(scored(prompt, ones, rewards={"accuracy": accuracy}, advantages=[0.0] * len(ones)))
    page_of = []
    for number, group in enumerate(groups):
        folder = tmp_path / str(number)
        folder.mkdir()
        RolloutWriter(folder).record([group], step=1, mode="train")
        page = open_page(build_report(folder))
        page_of.append(
            [page.locator(".completion").nth(k).locator(".hint").all_inner_texts() for k in range(len(told[number]))]
        )
    assert page_of == [
        [
            [],
            [
                "completion 1 is right without this call: the call or the last message went wrong; look at what the "
                "prompt shows and image 3"
            ],
            ["it asks for nothing, as completion 1, but its last message has no <answer>…</answer>"],
            ["it asks for nothing, as completion 1, and the answer is another one: look at what the prompt shows"],
        ],
        [
            [],
            [],
            [
                "completion 1 is right without this call: the call or the last message went wrong; look at image 3 "
                "and image 4"
            ],
            [],
            [
                "every turn asks for the same and gets the same as completion 1, but its last message has no "
                "<answer>…</answer>"
            ],
        ],
    ]


@pytest.mark.parametrize(
    ("scores", "marks"),
    [
        ({"Grid": [0.9, 0.0], "Page": [None, None]}, ["✓ right", "✗ wrong"]),
        ({"Grid": [None, None], "Page": [-1.0, 1.0]}, ["✗ wrong", "✓ right"]),
    ],
)
def test_a_rollout_of_several_environments_is_right_by_the_reward_of_its_own(open_page, tmp_path, scores, marks):
    red = Image.new("RGB", (40, 40), "red")
    look = {"said": "", "calls": [{"name": "look", "arguments": {"box": 1}}], "returned": [[red]]}
    prompt = prepared(example(), model_size=(100, 200), decoded=(100, 200))
    one = scored(prompt, [played(look, {"said": "red"})] * 2, rewards=scores, advantages=[0.5, -0.5])
    RolloutWriter(tmp_path).record([one], step=1, mode="train")
    (tmp_path / "config.yaml").write_text("environment:\n- grid=envs.py:Grid\n- page=envs.py:Page\n")
    page = open_page(build_report(tmp_path))
    assert page.locator(".completion .verdict").all_inner_texts() == marks


def test_a_narrow_window_scrolls_only_the_strip(browser, page_file):
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_a_box_that_cannot_be_drawn_says_why(open_page, tmp_path):
    arguments = {"image": 9, "box": [10, 10, 50, 50]}
    missing = {"name": "zoom", "arguments": arguments, "box_frame": "pixels"}
    silent = {"name": "crop", "arguments": {**arguments, "image": 1}}
    turn = {"said": "", "calls": [missing, silent], "returned": [["no image 9"], ["done"]]}
    prompt = prepared(example(), model_size=(100, 200), decoded=(100, 200))
    one = scored(prompt, [played(turn, {"said": "red"})], rewards={"Screen": [0.2]}, advantages=[0.5])
    RolloutWriter(tmp_path).record([one], step=1, mode="train")
    page = open_page(build_report(tmp_path))
    reasons = page.locator(".call .of").filter(has_text="not drawn").all_inner_texts()
    assert reasons == ["not drawn: there was no image 9", "not drawn: crop does not say its box_frame"]


def test_taps_are_drawn_and_only_those_that_changed_nothing_are_repetitions(open_page, tmp_path):
    screens = [Image.new("RGB", (200, 240), colour) for colour in ("white", "grey")]
    tap = {"name": "tap", "arguments": {"x": 150, "y": 60}, "box_frame": "pixels"}
    taps = [{"said": "", "calls": [tap], "returned": [[screens[k]]]} for k in (0, 1, 1)]
    told = [["{'error': 'this call could not be read: it is not valid JSON'}"]]
    unread = {"said": "<tool_call>{", "calls": [{"name": "", "arguments": {}, "failed": True}], "returned": told}
    lost = replace(played(taps[0], unread, {"said": "off"}), unread={1: "it is not valid JSON"})
    played_ones = [played(*taps, {"said": "on"}), lost]
    late = {"said": "", "calls": [tap, {**tap, "was_done": False}], "returned": [[screens[0]]]}
    played_ones.append(played(late, finish="done"))
    prompt = prepared(example(), model_size=(100, 200), decoded=(100, 200))
    one = scored(prompt, played_ones, rewards={"Screen": [0.2, 0.0, 0.2]}, advantages=[0.5, -0.5, 0.5])
    RolloutWriter(tmp_path).record([one], step=1, mode="train")
    page = open_page(build_report(tmp_path))
    verdicts = page.locator(".completion .verdict").all_inner_texts()
    assert verdicts == ["✓ right", "✗ wrong", "✓ right"], "more than 0 of the only reward"
    cells = page.locator(".completion").nth(0).locator(".cell")
    troubles = cells.evaluate_all("all => all.map(one => one.querySelectorAll('.trouble').length)")
    assert troubles == [0, 0, 1, 0], "the second tap got another screen"
    image, point = (cells.nth(1).locator(f".asked-of {name}").bounding_box() for name in ("img", ".point"))
    assert point["width"] > 4
    middle = [(point[a] + point[b] / 2 - image[a]) / image[b] for a, b in (("x", "width"), ("y", "height"))]
    assert middle == pytest.approx([0.75, 0.25], abs=0.02)
    lost = page.locator(".completion").nth(1)
    assert lost.locator(".trouble").inner_text() == "wrote a call that could not be read: it is not valid JSON"
    asked = lost.locator(".cell").nth(1).locator(".labelled").all_inner_texts()
    assert [" ".join(row.split()) for row in asked[1:]] == [
        "asked a call that could not be read",
        "got failed: this call could not be read: it is not valid JSON",
    ]
    assert "3 turns · 2 calls · 1 new image · 1 failed" in lost.inner_text()
    after = page.locator(".completion").nth(2)
    assert after.locator(".trouble").inner_text() == "tap was not done: a call before it had ended the rollout"
    assert after.locator(".labelled").last.inner_text().endswith("nothing: this call was not done")
    ways = page.locator("#went-wrong button")
    assert ways.all_inner_texts() == [
        "1 × wrong, shown with their groups",
        "1 × wrong, shown alone",
        "3 × a turn went wrong",
        "2 × a call was not read or not done",
    ]
