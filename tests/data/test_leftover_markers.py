"""Markers, parts and objects that do not fit together are refused by name."""

import pytest
from refused_rows import ASK, ASSISTANT, USER, Refused, check_refused, part
from triptych_data import DataError, read_examples

REFUSED: Refused = {
    # markers
    "numbered as MMMU does": (
        {"question": "Is <image 1> red?", "image": "0.png", "answer": "x"},
        r"got <image 1> in message 1; write <image:1>",
        {"question": "Is <image:1> red?", "image": "0.png", "answer": "x"},
    ),
    "numbered as ReMI does": (
        {"prompt": "Is <image1> red?", "image": "0.png", "answer": "x"},
        "got <image1> in message 1",
        {"prompt": "Is <image:1> red?", "image": "0.png", "answer": "x"},
    ),
    **{
        f"an image in HTML or LaTeX, {number}": (
            {"prompt": f"{text} What is it?", "answer": "x"},
            "expected images in a column of their own, got ",
            {"prompt": "<image> What is it?", "image": "0.png", "answer": "x"},
        )
        for number, text in enumerate(
            ('<img src="0.png">', "<img width=2 src=0.png>", r"\includegraphics[width=2cm]{0}")
        )
    },
    **{
        f"no image for {mark}": (
            {"prompt": f"Is {mark} red?", "answer": "x"},
            r"expected images in a column of their own, got '.*(?i:im).*' in message 1; write <image> in its place",
            {"prompt": [{"role": "user", "content": [{"type": "text", "text": f"Is {mark} red?"}]}], "answer": "x"},
        )
        for mark in ("<IMAGE>", "<Image>", "< image >", "<ImageHere>", "&lt;image&gt;", "[IMG]", "[Image 1]")
    },
    **{
        f"named images in another order than their numbers, {text}": (
            {"prompt": f"{text}Which?", "images": {"image_10": "0.png", "image_2": "2.png"}, "answer": "x"},
            "expected images in the order of their numbers, got image_10 before image_2; give the images as a list in",
            {
                "prompt": "<image:image_2><image:image_10>Which?",
                "images": {"image_10": "0.png", "image_2": "2.png"},
                "answer": "x",
            },
        )
        for text in ("", "<image><image>", "<image:1><image:2>")
    },
    "an invisible character in a marker": (
        {"prompt": "Is <image\u200b> red?", "image": "0.png", "answer": "x"},
        "got '<image>' with an invisible character in it in message 1; write <image> in its place",
        {"prompt": "Is <image> red?", "image": "0.png", "answer": "x"},
    ),
    "a marker in the answer alone": (
        {"messages": [USER, {"role": "assistant", "content": "<image> red"}], "image": "0.png"},
        "got <image> in the assistant's last turn of messages alone",
        {"messages": [USER, {"role": "assistant", "content": "red"}], "image": "0.png"},
    ),
    "another dialect": (
        {"prompt": "<|image_1|>Colour?", "image": "0.png", "answer": "x"},
        "expected images in text as image writes them, got a marker as phi writes it",
        {"prompt": "<image>Colour?", "image": "0.png", "answer": "x"},
    ),
    "marker beside parts": (
        {
            "prompt": [{"role": "system", "content": "See <image>."}, {"role": "user", "content": [{"type": "image"}]}],
            "image": "0.png",
            "answer": "x",
        },
        "expected images as parts alone, got a marker in the text of message 1 as well",
        {
            "prompt": [
                {"role": "system", "content": [{"type": "text", "text": "See <image>."}]},
                {"role": "user", "content": [{"type": "image"}]},
            ],
            "image": "0.png",
            "answer": "x",
        },
    ),
    "numbered marker beside parts": (
        {**part(type="image", image="0.png"), "system": "See <image 1>."},
        "expected images as parts alone, got a marker in the text of message 1 as well",
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "See <image 1>."}]},
                *part(type="image", image="0.png")["messages"],
            ]
        },
    ),
    "text and image in one part": (
        part(type="image", image="0.png", text="Colour?"),
        "to contain only an image, got text as well",
        part(type="image", image="0.png"),
    ),
    "image beside text": (
        part(type="text", text="Colour?", image="0.png"),
        "to contain only text, got 'image' as well",
        part(type="image", image="0.png"),
    ),
    "a part that is a number": (
        {"messages": [{"role": "user", "content": ["x", 5]}]},
        r"expected messages\[0\].content\[1\] to be a text or image part, got 5",
        {"messages": [{"role": "user", "content": ["x", "5"]}]},
    ),
    "an image in the answer": (
        {"messages": [USER, {"role": "assistant", "content": [{"type": "image", "image": "0.png"}]}]},
        r"expected the answer in messages\[1\] to be text, got a part of type 'image'",
        {"messages": [USER, ASSISTANT]},
    ),
    "the order of the images by index": (
        {
            "messages": [{"role": "user", "content": [{"type": "image", "index": 1}, {"type": "image", "index": 0}]}],
            "images": ["0.png", "1.jpg"],
            "answer": "x",
        },
        r"got index 1 in messages\[0\].content\[0\], which is image 0 in that order",
        {
            "messages": [{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}],
            "images": ["1.jpg", "0.png"],
            "answer": "x",
        },
    ),
    "a name beside a path": (
        {"prompt": "<image:before>Colour?", "image": {"path": "0.png", "name": "before"}, "answer": "x"},
        r'no image has this name .* give the image this name in the record: {"name": ..., "image": ...}',
        {"prompt": "<image:before>Colour?", "image": [{"image": "0.png", "name": "before"}], "answer": "x"},
    ),
    "an empty pair of tags": (
        {"prompt": "<image></image>Colour?", "image": "0.png", "answer": "x"},
        "got '<image></image>' in message 1; write <image> in its place",
        {"prompt": "<image>Colour?", "image": "0.png", "answer": "x"},
    ),
    **{
        f"a marker of another project, {mark}": (
            {"prompt": f"{mark} Colour?", "image": "0.png", "answer": "x"},
            "expected images in text as image writes them, got .* in message 1; write <image> in its place",
            {"prompt": "<image> Colour?", "image": "0.png", "answer": "x"},
        )
        for mark in ("<IMG_CONTEXT>", "<im_patch>", "<image=1>", "<images>", "<frame>")
    },
    **{
        f"an image in a text, {mark[:20]}": (
            {"prompt": f"{mark} Colour?", "answer": "x"},
            "expected images in a column of their own, got .* in message 1; write <image> in its place",
            {"prompt": "<image> Colour?", "image": "0.png", "answer": "x"},
        )
        for mark in ("<|image_1|>", "<|image_pad|>", "<IMG_CONTEXT>", "![](a.png)", f"data:image/png;base64,{'A' * 60}")
    },
    "a text of a chat template": (
        {"prompt": "<|im_start|>user\nColour?<|im_end|>", "answer": "x"},
        r"expected a text that no chat template has written, got <\|im_start\|> in prompt\[0\]; write its turns",
        {"prompt": [{"role": "user", "content": "Colour?"}], "answer": "x"},
    ),
    # objects
    "one box, not a list of boxes": (
        {"messages": [{"role": "user", "content": "<bbox>?"}, ASSISTANT], "objects": {"bbox": [1, 2, 3, 4]}},
        r"expected objects.bbox to contain boxes, each a list of numbers, got 1; write it as \[\[x1",
        {"messages": [{"role": "user", "content": "<bbox>?"}, ASSISTANT], "objects": {"bbox": [[1, 2, 3, 4]]}},
    ),
    "a name that is none": (
        {"messages": [{"role": "user", "content": "<ref-object>?"}, ASSISTANT], "objects": {"ref": [None, "a"]}},
        "expected objects.ref to contain texts, got None",
        {"messages": [{"role": "user", "content": "<ref-object>?"}, ASSISTANT], "objects": {"ref": ["a"]}},
    ),
    "a place for a box, and no box": (
        {"messages": [{"role": "user", "content": "What is in <bbox>?"}, ASSISTANT], "image": "0.png"},
        "expected the column objects for <bbox> in message 1, got none",
        {
            "messages": [{"role": "user", "content": "What is in <bbox>?"}, ASSISTANT],
            "image": "0.png",
            "objects": {"bbox": [[1, 2, 3, 4]]},
        },
    ),
    "too few objects": (
        {"messages": [{"role": "user", "content": "<ref-object>, <ref-object>"}, ASSISTANT], "objects": {"ref": ["a"]}},
        "expected an entry of objects for every <ref-object>",
        {
            "messages": [{"role": "user", "content": "<ref-object>, <ref-object>"}, ASSISTANT],
            "objects": {"ref": ["a", "b"]},
        },
    ),
    "too many objects": (
        {"messages": [{"role": "user", "content": "<ref-object>"}, ASSISTANT], "objects": {"ref": ["a", "b"]}},
        "expected 2 <ref-object> for the entries of objects.ref, got 1",
        {
            "messages": [{"role": "user", "content": "<ref-object> <ref-object>"}, ASSISTANT],
            "objects": {"ref": ["a", "b"]},
        },
    ),
    "image_id": (
        {**ASK, "image": "0.png", "objects": {"bbox": [[1, 2, 3, 4]], "image_id": [1]}},
        "expected objects.image_id to be from 0 to 0, got 1; count the images of the row from 0",
        {**ASK, "image": "0.png", "objects": {"bbox": [[1, 2, 3, 4]], "image_id": [0]}},
    ),
    "image_ids": (
        {**ASK, "image": "0.png", "objects": {"bbox": [[1, 2, 3, 4]], "image_id": [0, 0]}},
        "expected objects.image_id to have 1 entries, one for each box, got 2",
        {**ASK, "image": "0.png", "objects": {"bbox": [[1, 2, 3, 4]]}},
    ),
    "bbox_type": (
        {**ASK, "image": "0.png", "objects": {"bbox": [[1, 2, 3, 4]], "bbox_type": "norm1000"}},
        "expected objects.bbox_type to be one of real, norm1",
        {**ASK, "image": "0.png", "objects": {"bbox": [[1, 2, 3, 4]]}},
    ),
    "a repeated image before a box": (
        {
            "problem": "<image><image><image>",
            "images": ["0.png", "0.png", "1.jpg"],
            "answer": "x",
            "objects": {"bbox": [[1, 2, 3, 4]], "image_id": [2]},
        },
        "expected each image once where objects.image_id counts them",
        {
            "problem": "<image:1><image:1><image:2>",
            "images": ["0.png", "1.jpg"],
            "answer": "x",
            "objects": {"bbox": [[1, 2, 3, 4]], "image_id": [1]},
        },
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_row_is_refused_by_name_and_its_remedy_works(write_jsonl, pictures, name):
    check_refused(write_jsonl, *REFUSED[name])


@pytest.mark.parametrize(
    ("row", "other"),
    [
        ({"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "x"}]}, "swift"),
        ({"prompt": "What?", "reward_model": {"ground_truth": "x"}}, "trl"),
        ({"problem": "What?", "answer": "x"}, "trl"),
    ],
)
def test_images_without_markers_are_first_in_the_format_that_the_message_names(write_jsonl, pictures, row, other):
    path = write_jsonl([{**row, "images": pictures[:2]}])
    with pytest.raises(DataError, match=rf"images 1, 2 have no marker .* --data_format {other} \(format=\"{other}\"\)"):
        read_examples(path)
    (example,) = read_examples(path, format=other)
    assert example.prompt.pieces() == [[0, 1, "What?"]]
