"""Images in columns that nobody reads, in options and inside other columns, are refused by name."""

import pytest
from PIL import Image
from refused_rows import Refused, check_refused, part
from triptych_data import DataError, read_examples
from triptych_data.read_row import row_reader
from triptych_data.rows import SourceRow

REFUSED: Refused = {
    **{
        f"an image inside a column next to others, {name}": (
            {"question": "Which?", "image": "0.png", name: value, "answer": "3"},
            f"expected every image in the column images, got '2.png' in {name}, which is not read",
            {"question": "Which?", "images": ["0.png", "2.png"], name: value, "answer": "3"},
        )
        for name, value in (
            ("info", {"second_image": "2.png"}),
            ("extra_info", {"images": ["0.png", "2.png"]}),
            ("extra_info", [{"views": {"image_path": "2.png"}}]),
            ("objects", {"ref": ["hat"], "bbox": [[1, 2, 3, 4]], "image": ["2.png"]}),
        )
    },
    **{
        f"pictures as options, {kind}": (
            {"question": "Which fits?", "image": "0.png", "choices": value, "answer": "A"},
            "expected every image in the column images, got '2.png' in choices, which is not read",
            {
                "question": "Which fits <image>? <image> or <image>",
                "images": ["0.png", "2.png", "4.png"],
                "answer": "A",
            },
        )
        for kind, value in (
            ("a mapping", {"A": "2.png", "B": "4.png"}),
            ("a list", ["2.png", "4.png"]),
            ("with letters", ["A. 2.png", "B. 4.png"]),
        )
    },
    **{
        f"a file of one name in another folder, {name}": (
            {"question": "What changed?", "images": ["A/0.png"], name: value, "answer": "3"},
            rf"expected every image in the column images, got .*B/0.png.* in {name}, which is not read",
            {"question": "What changed?", "images": ["0.png", "2.png"], "answer": "3"},
        )
        for name, value in (
            ("image_after", "B/0.png"),
            ("frames", ["A/0.png", "B/0.png"]),
            ("meta", {"second_image": "B/0.png"}),
        )
    },
    **{
        f"a picture that is not the answer, {name}": (
            {"question": "Which is sharper?", name: "0.png", "answer": "x"},
            f"expected every image in the column images, got '0.png' in {name}, which is not read",
            {"question": "Which is sharper?", "images": ["0.png"], "answer": "x"},
        )
        for name in ("reference_image", "target_image", "reference")
    },
    **{
        f"more files than images, {name}": (
            {"question": "Which?", "image": "0.png", name: value, "answer": "3"},
            f"expected every image in the column images, got '2.png' in {name}, which is not read",
            {"question": "Which?", "images": ["0.png", "2.png"], name: value, "answer": "3"},
        )
        for name, value in (
            ("image_filenames", ["0.png", "2.png"]),
            ("metadata", {"image_path": "a/0.png", "second_image": "2.png"}),
        )
    },
    "fewer files than images": (
        {"question": "Which?", "images": ["0.png", "2.png"], "extra_info": {"image_path": "4.png"}, "answer": "3"},
        "expected every image in the column images, got '4.png' in extra_info, which is not read",
        {"question": "Which?", "images": ["0.png", "2.png", "4.png"], "answer": "3"},
    ),
    "two columns of paths": (
        {"question": "Which?", "image": "0.png", "image_path": "2.png", "answer": "3"},
        "expected the images in one place, got different ones in image and image_path; remove image_path, or image",
        {"question": "Which?", "image": "0.png", "answer": "3"},
    ),
    "a further image next to image parts": (
        {**part(type="image", image="0.png"), "image_2": "2.png"},
        'got \'2.png\' in image_2, which is not read; put it into the messages as an image part, {"type": "image", ',
        part(type="image", image="2.png"),
    ),
    "a further image next to places for images": (
        {**part(type="image"), "images": ["0.png"], "image_2": "2.png"},
        'got \'2.png\' in image_2, which is not read; put it into images, with an image part, {"type": "image"}, where',
        {**part(type="image"), "images": ["2.png"]},
    ),
    **{
        f"another order of the images, {name}": (
            {"question": "<image><image>Which?", "images": ["0.png", "2.png"], name: value, "answer": "3"},
            f"expected the images in the order of the prompt, got another one in the column {name}, which is not read",
            {"question": "<image><image>Which?", "images": ["2.png", "0.png"], "answer": "3"},
        )
        for name, value in (("image_order", [1, 0]), ("img_order", "[2, 1]"))
    },
    **{
        f"another number of images, {name}": (
            {"question": "Which?", "image": "0.png", name: value, "answer": "3"},
            f"expected 2 images, as the column {name} says, got 1; give all images of the row, correct {name}, or call",
            {"question": "Which?", "images": ["0.png", "2.png"], name: value, "answer": "3"},
        )
        for name, value in (("num_images", 2), ("n_images", "2"), ("image_count", 2))
    },
    **{
        f"an image in {name}": (
            {"question": "Which?", "image": "0.png", name: value, "answer": "3"},
            f"expected every image in the column images, got '2.png' in {name}, which is not read",
            {"question": "Which?", "images": ["0.png", "2.png"], "answer": "3"},
        )
        for name, value in (("grid", "2.png"), ("views", {"left": "2.png"}))
    },
    "a reference next to an image": (
        {"question": "Which is sharper?", "image": "0.png", "reference_image": "2.png", "answer": "x"},
        "expected every image in the column images, got '2.png' in reference_image, which is not read",
        {"question": "Which is sharper?", "images": ["0.png", "2.png"], "answer": "x"},
    ),
    **{
        f"an image without the end of an image's name, {value}": (
            {"question": "What changed?", "image": "0.png", "image_2": value, "answer": "x"},
            "expected every image in the column images, got .* in image_2, which is not read",
            {"question": "What changed?", "images": ["0.png", "2.png"], "answer": "x"},
        )
        for value in ("step_3", "b.dcm", "https://host.example/media/xyz?format=jpg")
    },
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_row_is_refused_by_name_and_its_remedy_works(write_jsonl, pictures, name):
    check_refused(write_jsonl, *REFUSED[name])


@pytest.mark.parametrize(
    "info",
    [
        {"image_name": "2.png"},
        {"image_url": "2.png"},
        {"views": ["2.png"]},
        {"gt_image": "2.png"},
        {"image": "0.png"},
    ],
)
def test_a_text_that_says_where_an_image_is_from_goes_to_rewards(write_jsonl, pictures, info):
    row = {"question": "Which?", "image": "0.png", "info": info, "answer": "3"}
    (example,) = read_examples(write_jsonl([row]))
    assert example.extras["info"] == info


@pytest.mark.parametrize(
    "columns",
    [
        {"image_path": "train/0.png"},
        {"image_url": "https://host.example/photo/17.jpg"},
        {"image_filename": "CLEVR_train_000000.png"},
        {"image_source": "COCO_val2014_000000310196.jpg"},
        {"img_file": "C:\\data\\0.png"},
        {"meta_info": {"split": "val", "image_path": "images/17.jpg"}},
        {"metadata": {"path": "train/17.png"}},
        {"imageName": "17.png", "filename": "17.png", "num_images": 1},
    ],
)
def test_a_column_that_says_where_the_shown_image_is_from_goes_to_rewards(write_jsonl, pictures, columns):
    (example,) = read_examples(write_jsonl([{"question": "Which?", "image": "0.png", "answer": "3", **columns}]))
    assert [image.ref for image in example.images] == ["0.png"]
    assert {name: example.extras[name] for name in columns} == columns


def test_pictures_of_one_name_are_compared_by_their_bytes(tmp_path):
    """As a dataset with two columns of pictures has them: both files are called alike."""

    def picture(colour):
        Image.new("RGB", (56, 56), colour).save(tmp_path / "0001.png")
        return {"bytes": (tmp_path / "0001.png").read_bytes(), "path": "0001.png"}

    row = {"prompt": "What changed?", "images": [picture("red")], "image_after": picture("blue"), "answer": "x"}
    place = SourceRow(values=row, file="rows", source="rows[0]", index=0, folder=tmp_path)
    with pytest.raises(DataError, match="expected every image in the column images, got .* in image_after"):
        row_reader()(place)
    row["image_after"] = picture("red")
    assert len(row_reader()(place).images) == 1
