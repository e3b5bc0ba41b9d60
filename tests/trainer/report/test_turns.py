"""Rollouts of several turns on disk and on the page's data: what was said, asked and got, and where it went wrong."""

import json
import re
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from made_up import played, prepared, scored
from PIL import Image
from played_runs import example, rollouts, write_played_run
from triptych_parser import bind, parse
from triptych_trainer.report import build_report
from triptych_trainer.rollouts.read import read_groups, read_visits
from triptych_trainer.rollouts.turns import CallRecord, shown_images, trajectory_of
from triptych_trainer.rollouts.write import RolloutWriter


@pytest.fixture(scope="module")
def played_run(tmp_path_factory):
    return write_played_run(tmp_path_factory.mktemp("played") / "run")


@pytest.fixture(scope="module")
def group(played_run):
    return read_groups(read_visits(played_run))[0]


def test_every_turn_has_its_words_its_tokens_its_reward_and_its_calls(group):
    right, wrong, over, cut = group.trajectories
    assert [one.finish for one in group.trajectories] == ["stop", "stop", "turns", "room"]
    assert [(turn.said, turn.num_tokens, turn.reward) for turn in wrong.turns] == [
        ("I look on the right.", 3, 0.0),
        ("And at the ninth.", 3, -0.2),
        ("A blue disc. <answer>[130, 30, 180, 80] in image 1</answer>", 3, 0.0),
    ]
    assert (right.num_tokens, wrong.num_tokens) == (10, 17)
    assert [len(turn.calls) for turn in right.turns] == [1, 0]
    assert wrong.turns[1].calls[0].failed
    assert wrong.turns[1].calls[0].returned == ["{'error': 'there is no image 9; there are images 1 to 3'}"]
    assert [turn.calls[0].was_done for turn in over.turns] == [True, True, False]
    assert cut.turns[0].calls[0].returned == []


def test_boxes_are_pixels_of_the_image_that_they_were_asked_of(group):
    (call,) = group.trajectories[0].turns[0].calls
    assert (call.image, call.box) == (0, [10.0, 10.0, 70.0, 70.0]), "thousandths of 200 x 100 pixels"
    assert call.returned == ["Here: ", 2], "the image that arrived is the third"
    assert group.trajectories[1].turns[1].calls[0].image is None, "there is no ninth image"


@pytest.mark.parametrize(("num_images", "image"), [(1, 0), (2, None)])
def test_a_box_without_an_image_is_in_the_only_one_of_the_prompt_as_for_rewards(tmp_path, num_images, image):
    picture = Image.new("RGB", (40, 40), "red")
    row = replace(
        example(), images=example().images[:num_images], prompt=bind(parse("<image>" * num_images), num_images)
    )
    look = {"name": "look", "arguments": {}}
    answered = {"said": "<answer>[1, 2, 3, 4]</answer>"}
    ones = [played(answered), played({"said": "", "calls": [look], "returned": [[picture]]}, answered)]
    RolloutWriter(tmp_path).record([scored(prepared(row), ones, rewards={"iou": [0.0, 0.0]})], step=1, mode="eval")
    page = build_report(tmp_path).read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    (group,) = json.loads(data)["groups"]
    assert [[box["image"] for box in one["boxes"]] for one in group["completions"]] == [[image], [image]]


@pytest.mark.parametrize(
    ("arguments", "frame", "image", "box"),
    [
        ({"image": "2", "box": [1, 2, 3, 4]}, "pixels", 1, [1, 2, 3, 4]),
        ({"x": 500, "y": 250}, "thousandths", 2, [50, 25, 50, 25]),
        ({"image": 3, "box": [1, 2, 3, 4]}, None, 2, None),
        ({"image": 3, "box": "left"}, "pixels", 2, None),
        ({"image": True, "box": [1, 2, 3, 4]}, "pixels", 0, [1, 2, 3, 4]),
        ({"direction": "left"}, None, None, None),
        (["no", "object"], "pixels", 2, None),
    ],
)
def test_what_a_call_points_at(arguments, frame, image, box):
    picture = Image.new("RGB", (100, 100))
    look = {"name": "look", "arguments": {}}
    turns = [
        {"said": "a", "calls": [look], "returned": [[picture]]},
        {"said": "b", "calls": [{"name": "click", "arguments": arguments, "box_frame": frame}], "returned": [["ok"]]},
        {"said": "c"},
    ]
    (group_image,) = trajectory_images(played(*turns))
    found = trajectory_of(played(*turns), prepared(example()), images=[group_image])
    assert found.turns[1].calls == [
        CallRecord(tool="click", arguments=json.dumps(arguments), image=image, box=box, returned=("ok",))
    ]


def trajectory_images(rollout):
    from triptych_trainer.rollouts.image_record import ImageRecord

    return [ImageRecord(ref=one.owner, width=100, height=100) for one in shown_images(rollout)]


def test_what_came_as_the_rollout_ended_was_not_seen():
    picture = Image.new("RGB", (8, 4))
    call = {"name": "open", "arguments": {}}
    turn = {"said": "a", "calls": [call], "returned": [[picture]]}
    assert [one.model_size for one in shown_images(played(turn, turn, finish="done"))] == [(4, 8), None]


def test_parquet_holds_turns_counts_and_every_image_once(played_run, group):
    part = sorted((played_run / "rollouts").glob("*.parquet"))[0]
    row = pq.read_table(part).to_pylist()[0]
    assert (row["num_calls"], row["num_failed_calls"]) == ([1, 2, 2, 1], [0, 1, 0, 0])
    assert (row["num_turn_images"], row["num_all_tokens"]) == ([1, 1, 2, 0], [10, 17, 17, 3])
    assert row["trajectories"][0]["turns"][0]["calls"][0]["tool"] == "zoom"
    assert len(list((played_run / "rollouts" / "images").iterdir())) == 4, "two of the prompt and two different crops"
    sizes = [(image.width, image.height) for image in group.trajectories[2].images]
    assert sizes == [(120, 120)] * 2
    assert len(rollouts()) == 4


def test_the_page_has_turns_filters_and_curves(played_run, tmp_path):
    page = build_report(played_run, tmp_path / "r.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    assert [line["values"] for line in data["curves"]["calls"]] == [[1.5, 1.5], [0.25, 0.25]]
    assert data["curves"]["turn-images"][0]["values"] == [1.0, 1.0]
    assert data["curves"]["all-tokens"][0]["values"] == [11.75, 11.75]
    first = data["groups"][0]["completions"][0]
    assert [part[:2] for part in first["turns"][1]["parts"]][:2] == [
        ["text", "Image 3"],
        ["text", " shows a red mark. "],
    ]
    assert first["turns"][1]["parts"][0][2] == [2], "an image that arrived is an image"
    assert (first["finish"], first["allTokens"], len(first["images"])) == ("stop", 10, 1)


@pytest.mark.parametrize(
    ("rewards", "options", "expected"),
    [
        (["Grid"], "", (None, ["Grid"])),
        (["format", "Grid"], "environment:\n- envs.py:Grid\n", (None, ["Grid"])),
        (["format", "Grid"], "environment: envs.py:Other\n", (None, [])),
        (["format", "Grid"], "verdict: format\nenvironment: envs.py:Grid\n", ("format", [])),
        (["accuracy", "Grid"], "environment: envs.py:Grid\n", ("accuracy", [])),
        (["Grid", "Page"], "environment:\n- grid=envs.py:Grid\n- page=envs.py:Page\n", (None, ["Grid", "Page"])),
    ],
)
def test_the_reward_of_an_environment_says_what_is_right_where_no_other_does(tmp_path, rewards, options, expected):
    red = Image.new("RGB", (40, 40), "red")
    look = {"said": "", "calls": [{"name": "look", "arguments": {"box": 1}}], "returned": [[red]]}
    prompt = prepared(example(), model_size=(100, 200), decoded=(100, 200))
    one = scored(prompt, [played(look, {"said": "red"})], rewards={name: [0.1] for name in rewards}, advantages=[0.0])
    RolloutWriter(tmp_path).record([one], step=1, mode="train")
    (tmp_path / "config.yaml").write_text(options)
    page = build_report(tmp_path).read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    assert (data["verdict"], data["gained"]) == expected
    words = {
        1: "a rollout is right if <i>Grid</i> is more than 0",
        2: "a rollout is right if the reward of its environment (<i>Grid</i>, <i>Page</i>) is more than 0",
    }
    assert [count for count, said in words.items() if said in page] == ([len(expected[1])] if expected[1] else [])
