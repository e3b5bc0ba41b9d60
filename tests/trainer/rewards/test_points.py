import pytest
from hypothesis import given
from hypothesis import strategies as st
from triptych_trainer.rewards import ImageInfo, read_points

IMAGES = tuple(ImageInfo(index=k, name=name, width=100, height=50) for k, name in enumerate(["before", "after"]))


@pytest.mark.parametrize(
    "text",
    [
        "(120, 340)",
        "[120, 340]",
        "[[120, 340]]",
        "[(120, 340)]",
        "120, 340",
        "<point>120 340</point>",
        "<point>120,340</point>",
        '<point x="120" y="340" alt="OK">OK</point>',
        "<click>120, 340</click>",
        "CLICK <point>[[120, 340]]</point>",
        "<|box_start|>(120,340)<|box_end|>",
        "<|box_start|>(100,300),(140,380)<|box_end|>",
        "<box>100 300 140 380</box>",
        "[100, 300, 140, 380]",
        '{"point_2d": [120, 340], "label": "OK"}',
        '```json\n[{"point_2d": [120, 340]}]\n```',
        "{'point': (120, 340)}",
        '{"bbox_2d": [100, 300, 140, 380]}',
        '{"x": 120, "y": 340}',
        '{"action": "click", "target": {"x": 120, "y": 340}}',
        '{"action": "click", "coordinate": "120, 340"}',
        '<tool_call>{"name": "computer_use", "arguments": {"action": "click", "coordinate": [120, 340]}}</tool_call>',
        "click(120, 340)",
        "tap(120,340)",
        "click(x=120, y=340)",
        "pyautogui.click(x=120.0, y=340.0)",
        "Action: click(start_box='(120,340)')",
        "click(point='<point>120 340</point>')",
        "Action: click(start_box='<|box_start|>(120,340)<|box_end|>')",
        "I click the button at (120, 340), that is (120, 340).",
    ],
)
def test_ways_to_write_a_point(text):
    assert [(point.x, point.y, point.image) for point in read_points(text, images=IMAGES)] == [(120, 340, None)]


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("image 2: (1, 2)", [(1, 2, 1)]),
        ("In the first image click [5, 6], in image 2 [7, 8]", [(5, 6, 0), (7, 8, 1)]),
        ('{"point_2d": [1, 2], "image": "after"}', [(1, 2, 1)]),
        ('{"point_2d": [1, 2], "image_id": 9}', [(1, 2, -1)]),
        ("click(x=0.5, y=.25)", [(0.5, 0.25, None)]),
        ("(10,20),(30,40)", [(10, 20, None), (30, 40, None)]),
        ("(-1, 2)", [(-1, 2, None)]),
        ("(1, 2, 3)", []),
        ("[1]", []),
        ('{"point_2d": [1, true]}', []),
        ('{"point_2d": [1, NaN]}', []),
        ("in 2024, 3 of them", []),
        ("nothing", []),
        ("", []),
    ],
)
def test_images_several_points_and_none(text, points):
    assert [(point.x, point.y, point.image) for point in read_points(text, images=IMAGES)] == points


@given(st.text(alphabet='[]{}(),:"0123456789. xy=pointcl_2d<>/', max_size=60))
def test_any_text_is_read(text):
    read_points(text, images=IMAGES)


@pytest.mark.parametrize("piece", ["(1,2,", "[1 ", "x=1", "<point>1 ", "{", "1 1 ", '{"x":', "(1,2)"])
def test_long_repetitions_take_linear_time(piece):
    read_points(piece * 10_000, images=IMAGES)
