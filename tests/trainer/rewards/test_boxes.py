import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triptych_trainer.rewards import Box, ImageInfo, iou, read_boxes, scale_box, to_seen
from triptych_trainer.rewards.boxes import matched_ious

IMAGES = tuple(
    ImageInfo(index=k, name=name, width=100, height=50, source_width=400, source_height=100)
    for k, name in enumerate(["before", "after"])
)
CORNERS = (10.0, 20.0, 30.0, 40.0)


def box(*corners, image=None, label=None):
    x1, y1, x2, y2 = corners
    return Box(x1=x1, y1=y1, x2=x2, y2=y2, image=image, label=label)


coordinates = st.integers(0, 20)
boxes = st.builds(lambda a, b, c, d: box(min(a, c), min(b, d), max(a, c), max(b, d)), *[coordinates] * 4)


def counted_iou(a, b):
    """Count unit squares: slow, and plainly right for whole coordinates."""
    cells = [{(x, y) for x in range(int(c.x1), int(c.x2)) for y in range(int(c.y1), int(c.y2))} for c in (a, b)]
    union = len(cells[0] | cells[1])
    return len(cells[0] & cells[1]) / union if union else 0.0


@settings(deadline=None)
@given(boxes, boxes)
def test_iou_equals_counting_squares(a, b):
    assert iou(a, b) == pytest.approx(counted_iou(a, b))
    assert iou(a, b) == iou(b, a)


def test_iou_of_known_boxes():
    assert iou(box(0, 0, 10, 10), box(0, 0, 10, 10)) == 1.0
    assert iou(box(0, 0, 10, 10), box(5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou(box(0, 0, 10, 10), box(10, 0, 20, 10)) == 0.0
    assert iou(box(10, 10, 0, 0), box(0, 0, 10, 10)) == 0.0
    assert iou(box(0, 0, 10, 10, image=0), box(0, 0, 10, 10, image=1)) == 0.0
    assert iou(box(0, 0, 10, 10, image=0), box(0, 0, 10, 10)) == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[10, 20, 30, 40]", [box(*CORNERS)]),
        ("(10,20),(30,40)", [box(*CORNERS)]),
        ("<|box_start|>(10,20),(30,40)<|box_end|>", [box(*CORNERS)]),
        ("(10, 20, 30, 40)", [box(*CORNERS)]),
        ("[[10, 20, 30, 40], [1, 2, 3, 4]]", [box(*CORNERS), box(1, 2, 3, 4)]),
        ('{"bbox_2d": [10, 20, 30, 40]}', [box(*CORNERS)]),
        ('[{"box_2d": [20, 10, 40, 30], "label": "cup"}]', [box(*CORNERS, label="cup")]),
        ('{"box_2d": {"x1": 10, "y1": 20, "x2": 30, "y2": 40}}', [box(*CORNERS)]),
        ('```json\n[{"bbox_2d": [10, 20, 30, 40], "label": "cup"}]\n```', [box(*CORNERS, label="cup")]),
        ('{"bbox": [10, 20, 30, 40], "image": 2}', [box(*CORNERS, image=1)]),
        ('{"bbox": [10, 20, 30, 40], "image": "after"}', [box(*CORNERS, image=1)]),
        ('{"bbox": [10, 20, 30, 40], "image": "image 1"}', [box(*CORNERS, image=0)]),
        ('{"bbox": [10, 20, 30, 40], "image": 9}', [box(*CORNERS, image=-1)]),
        ('{"bbox": [10, 20, 30, 40], "image": [1]}', [box(*CORNERS, image=0)]),
        ('{"bbox": [10, 20, 30, 40], "image": "over there"}', [box(*CORNERS, image=-1)]),
        ('{"boxes": [[10, 20, 30, 40], [1, 2, 3, 4]]}', [box(*CORNERS), box(1, 2, 3, 4)]),
        ('so {"bbox_2d": [10, 20, 30, 40]} it is', [box(*CORNERS)]),
        ("In image 2 at [10, 20, 30, 40]", [box(*CORNERS, image=1)]),
        ("<image:after>: [10, 20, 30, 40]", [box(*CORNERS, image=1)]),
        (
            "image 1: [10,20,30,40], [1,2,3,4]; image 2: [5,6,7,8]",
            [box(*CORNERS, image=0), box(1, 2, 3, 4, image=0), box(5, 6, 7, 8, image=1)],
        ),
        ("images 1 and 2: [10,20,30,40]", [box(*CORNERS, image=-1)]),
        ("1. [10,20,30,40]", [box(*CORNERS)]),
        ("[{'bbox_2d': [10, 20, 30, 40], 'label': 'cup', 'image': 2}]", [box(*CORNERS, image=1, label="cup")]),
        ("[{'bbox_2d': (10, 20, 30, 40), 'image_id': 1},]", [box(*CORNERS, image=0)]),
        ("[(10, 20, 30, 40), (1, 2, 3, 4)]", [box(*CORNERS), box(1, 2, 3, 4)]),
        ("[10.5, -2, 30.25, 40]", [box(10.5, -2, 30.25, 40)]),
    ],
)
def test_ways_to_write_boxes(text, expected):
    reading = read_boxes(text, images=IMAGES)
    assert reading.problem is None
    assert list(reading.boxes) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no box",
        "[10, 20, 30]",
        "[10, 20, 30, 40, 50]",
        '[10, 20, 30, "x"]',
        '{"bbox_2d": [10, 20, 30]}',
        '{"bbox_2d": [10, 20, 30, NaN]}',
        '{"bbox_2d": [10, 20, 30, 1e999]}',
        '{"bbox_2d": [10, 20, 30, ' + "9" * 400 + "]}",
        '{"bbox_2d": [10, 20, 30, true]}',
        '{"bbox_2d": null}',
        '{"bbox_2d": [10, 20, 30, 40',
        "[" * 100_000,
        "{" * 1_000,
        '{"a":' * 100_000,
        "[10, 20, 30, 99999999999999]",
    ],
)
def test_malformed_boxes_are_no_boxes(text):
    reading = read_boxes(text, images=IMAGES)
    assert reading.boxes == ()
    assert reading.problem == "no box [x1, y1, x2, y2] in the text"


def test_an_empty_list_says_that_there_is_none():
    assert read_boxes("[]").problem is None
    assert read_boxes("```json\n[ ]\n```").problem is None


def test_the_number_of_boxes_is_bounded():
    assert len(read_boxes("[1,2,3,4] " * 1_000).boxes) == 500


@settings(deadline=None)
@given(st.text(alphabet='[]{}(),:"0123456789. imagebox_2d<>', max_size=60))
def test_any_text_is_read(text):
    assert read_boxes(text, images=IMAGES).problem in (None, "no box [x1, y1, x2, y2] in the text")


@pytest.mark.parametrize("piece", ["[1,2,3,", "(1,2),", "[ ", ") ", "image 2 ", "[1,2,3,4]image 1", "[[", '{"bbox":'])
def test_long_repetitions_take_linear_time(piece):
    read_boxes(piece * 10_000, images=IMAGES)


@pytest.mark.parametrize(
    ("frame", "written"),
    [
        ("seen", (10, 20, 30, 40)),
        ("source", (40, 40, 120, 80)),
        ("unit", (0.1, 0.4, 0.3, 0.8)),
        ("thousand", (100, 400, 300, 800)),
        ("percent", (10, 40, 30, 80)),
    ],
)
def test_each_frame_lands_in_the_pixels_that_the_model_saw(frame, written):
    moved = to_seen(box(*written, image=1, label="x"), IMAGES[1], frame=frame)
    assert (moved.x1, moved.y1, moved.x2, moved.y2) == pytest.approx(CORNERS)
    assert (moved.image, moved.label) == (1, "x")


def test_frames_that_cannot_be_used_are_explained():
    bare = ImageInfo(index=0, width=10, height=10)
    with pytest.raises(ValueError, match=r"need the size of image 1's file, which is not known; give source_width"):
        to_seen(box(*CORNERS), bare, frame="source")
    with pytest.raises(ValueError, match="unknown frame 'pixels'; known: seen, source, unit, thousand"):
        to_seen(box(*CORNERS), bare, frame="pixels")


def test_scaling_there_and_back_is_the_same_box():
    there = scale_box(box(*CORNERS, image=1), x=4, y=2)
    assert there == box(40, 40, 120, 80, image=1)
    assert scale_box(there, x=0.25, y=0.5) == box(*CORNERS, image=1)


def test_pairs_are_one_to_one():
    target = box(0, 0, 10, 10)
    near, nearer = box(0, 0, 10, 8), box(0, 0, 10, 9)
    assert matched_ious([near, nearer], [target]) == [pytest.approx(0.9)]
    assert matched_ious([near, near], [target, target]) == [pytest.approx(0.8)] * 2
    assert matched_ious([], [target]) == []


def test_labels_must_agree_where_the_expected_box_has_one():
    target = box(*CORNERS, label="Cup")
    assert matched_ious([box(*CORNERS, label="cup ")], [target]) == [1.0]
    assert matched_ious([box(*CORNERS, label="dog")], [target]) == []
    assert matched_ious([box(*CORNERS)], [target]) == []
    assert matched_ious([box(*CORNERS, label="dog")], [box(*CORNERS)]) == [1.0]


@pytest.mark.parametrize(
    "written",
    [
        '{"x1": 10, "x2": 30, "y1": 20, "y2": 40}',
        '{"xmin": 10, "xmax": 30, "ymin": 20, "ymax": 40}',
        '{"x": 10, "y": 20, "width": 20, "height": 20}',
        '{"bbox_xywh": [10, 20, 20, 20]}',
        '{"bbox": [10, 20, 20, 20], "format": "xywh"}',
        '{"bbox": {"x1": 10, "y1": 20, "x2": 30, "y2": 40}, "format": "xyxy"}',
    ],
)
def test_corners_and_sizes_are_read_by_their_names(written):
    assert read_boxes(written).boxes == (box(*CORNERS),)
