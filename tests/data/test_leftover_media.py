"""Videos, sounds, and images that are named in the text or in columns that nobody reads, are refused by name."""

import json

import pytest
from refused_rows import ASK, ASSISTANT, GPT, PNG, TALK, USER, Refused, check_refused, part
from triptych_data import DataError, read_examples

REFUSED: Refused = {
    # media
    "video": (
        {**TALK, "video": "x.mp4"},
        "got video in the column video; give its frames as images",
        {"conversations": [{"from": "human", "value": "<image><image>Colour?"}, GPT], "image": ["0.png", "1.jpg"]},
    ),
    "videos": (
        {"messages": [USER, ASSISTANT], "videos": [["0.png", "1.jpg"]]},
        "got video in the column videos",
        {"messages": [USER, ASSISTANT], "image": ["0.png", "1.jpg"]},
    ),
    "audios": (
        {**ASK, "audios": ["x.wav"]},
        "got audio in the column audios; write what is said",
        {**ASK, "problem": "Said: hello. Colour?"},
    ),
    "video and its marker": (
        {"conversations": [{"from": "human", "value": "<video>\nColour?"}, GPT], "video": "x.mp4"},
        "got video in the column video; give its frames as images",
        {"conversations": [{"from": "human", "value": "<image>\nColour?"}, GPT], "image": "0.png"},
    ),
    "video marker": (
        {"conversations": [{"from": "human", "value": "<video>\nColour?"}, GPT]},
        r"got <video> in conversations\[0\]",
        {"conversations": [{"from": "human", "value": [{"type": "text", "text": "<video>\nColour?"}]}, GPT]},
    ),
    "a marker as another project writes it": (
        {**ASK, "problem": "<|video_pad|>Colour?"},
        r"got <\|video_pad\|> in problem\[0\]; give its frames as images",
        {**ASK, "problem": "<image>Colour?", "images": ["0.png"]},
    ),
    "a film in a column of another name": (
        {**ASK, "image": "0.png", "clip": {"bytes": None, "path": "a.mp4"}},
        "got video in the column clip",
        {**ASK, "image": "0.png"},
    ),
    "images inside the column path, next to others": (
        {**ASK, "image": "0.png", "path": {"views": [{"left": "1.jpg"}]}},
        "got different ones in image and path; remove path",
        {**ASK, "image": "0.png"},
    ),
    "a question that is a film": (
        {**ASK, "problem": "m.mp4"},
        r"expected a question or an instruction in problem\[0\], got a file, 'm\.mp4'; write the text there",
        {**ASK, "problem": "Colour?"},
    ),
    "a question that is an image": (
        {"question": "0.png", "image": "1.jpg", "answer": "red"},
        r"expected a question or an instruction in question\[0\], got a file, '0\.png'",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "0.png"}]}, ASSISTANT], "image": "1.jpg"},
    ),
    "a system text that is an image": (
        {**ASK, "system": "data:image/png;base64,iVBORw0KGgo="},
        r"expected a question or an instruction in .*\[0\], got a file",
        {**ASK, "system": "Be brief."},
    ),
    "an image of Anthropic's form": (
        {**part(type="image", source={"type": "base64", "data": "aaaa"}), "image": "0.png"},
        "got 'source', which is not read",
        part(type="image", image="0.png"),
    ),
    "two files in an entry": (
        {**ASK, "image": {"path": "0.png", "image_path": "1.jpg"}},
        "expected image 1 to be one image, got another as image_path than as path",
        {**ASK, "image": PNG},
    ),
    "audio marker": (
        {**ASK, "problem": "<audio>?"},
        r"got <audio> in problem\[0\]",
        {**ASK, "problem": "Said: hello?"},
    ),
    "video part": (
        part(type="video", video="x.mp4"),
        r"got video in messages\[0\].content\[0\]",
        part(type="image", image="0.png"),
    ),
    "sound part": (
        part(type="input_audio", input_audio={"data": "aa"}),
        r"got audio in messages\[0\].content\[0\]",
        part(type="text", text="Said: hello."),
    ),
    "video in a message": (
        {"messages": [{**USER, "videos": ["x.mp4"]}, ASSISTANT]},
        r"got video as messages\[0\].videos",
        {"messages": [USER, ASSISTANT], "image": ["0.png"]},
    ),
    "a video among the images": (
        {**ASK, "image": "x.mp4"},
        "expected images in image, got video",
        {**ASK, "image": "0.png"},
    ),
    "data_type": (
        {**ASK, "data_type": "video"},
        "got video in the column data_type",
        {**ASK, "data_type": "image", "image": "0.png"},
    ),
    # an image named in the text, or its place as others write it
    **{
        f"the place as {mark}": (
            {**ASK, "problem": f"Is {mark} red?", "image": "0.png"},
            "expected images in text as image writes them, got ",
            {**ASK, "problem": "Is <image> red?", "image": "0.png"},
        )
        for mark in (
            *(
                "<Image>",
                "<IMAGE>",
                "<img>",
                "<image/>",
                "<|image|>",
                "<ImageHere>",
                "<image_placeholder>",
                "<image_pad>",
            ),
            *("{image}", "{image_1}", "[image]", "![front](0.png)", '<img src="0.png">', "<Image 1>"),
            *("&lt;image&gt;", "< image >"),
        )
    },
    **{
        f"a path between {mark}": (
            {"problem": f"Picture 1: {mark}0.png{mark[0]}/{mark[1:]} Colour?", "answer": "red"},
            r"expected images in a column of their own, got '<im.*' in message 1",
            {"problem": "Picture 1: <image> Colour?", "answer": "red", "image": "0.png"},
        )
        for mark in ("<img>", "<image>")
    },
    "an entry of null": (
        {**ASK, "image": ["0.png", None]},
        "expected image 2 as path, bytes or PIL image, got None; give one path for each image",
        {**ASK, "image": ["0.png"]},
    ),
    "a list in a list": (
        {**ASK, "image": [["0.png", "1.jpg"]]},
        r"expected image 1 as path, bytes or PIL image, got \['0.png', '1.jpg'\]",
        {**ASK, "image": ["0.png", "1.jpg"]},
    ),
    # images in columns that nobody reads
    "base64": (
        {**ASK, "image": "0.png", "encoded": "iVBORw0KGgo" + "A" * 60},
        "got 'iVBOR.*in encoded, which is not read",
        {**ASK, "image": ["0.png", "1.jpg"]},
    ),
    "deep in another column": (
        {**ASK, "extra_info": {"views": [{"left": "0.png"}]}},
        "got '0.png' in extra_info, which is not read",
        {**ASK, "image": "0.png", "extra_info": {"views": [{"left": "0.png"}]}},
    ),
    "image_1": (
        {**ASK, "image_1": "0.png", "image_2": None},
        "got '0.png' in image_1, which is not read",
        {**ASK, "images": ["0.png"], "problem": "<image>Colour?"},
    ),
    "screenshot": (
        {**ASK, "image": "0.png", "screenshot_before": "1.jpg"},
        "got '1.jpg' in screenshot_before",
        {**ASK, "image": "0.png", "reward_screenshot_before": "1.jpg"},
    ),
    "another file beside the image": (
        {**ASK, "image": "0.png", "second": ["1.jpg"]},
        "got '1.jpg' in second, which is not read",
        {**ASK, "image": "0.png", "file_name": "1.jpg", "extra_info": {"taken_from": "1.jpg"}},
    ),
    "file_name": ({**ASK, "file_name": "0.png"}, "got '0.png' in file_name", {**ASK, "image": "0.png"}),
    "struct": (
        {**ASK, "left": PNG, "right": {"path": "1.jpg"}},
        "in left, which is not read",
        {**ASK, "image": [PNG, {"path": "1.jpg"}]},
    ),
    "address": (
        {**ASK, "picture": "https://example.invalid/a.png?x=1"},
        "in picture, which is not read",
        {**ASK, "image": "0.png"},
    ),
    **{
        f"a number or name of an image in {name}": (
            {**ASK, name: value},
            f"expected the row's image in the column images, got .* in {name} and no image; put the path",
            {**ASK, "image": "0.png", name: value},
        )
        for name, value in (("image_id", 458752), ("imageId", "2354786"), ("img_name", "COCO_1"), ("image_key", "k/7"))
    },
    **{
        f"a change of the image in {name}": (
            {**ASK, "image": "0.png", name: value},
            f"expected the images as the model shall see them, got the column {name}, which is not read",
            {**ASK, "image": "0.png", f"reward_{name}": value},
        )
        for name, value in (("crop", [1, 2, 3, 4]), ("crop_box", [1, 2, 3, 4]), ("rotate", 90), ("resize", [9, 9]))
    },
    **{
        f"a folder of the images in {name}": (
            {**ASK, "image": "0.png", name: "images"},
            f"expected images by their whole path under the image root, got the folder 'images' in {name}",
            {**ASK, "image": "0.png", f"reward_{name}": "images"},
        )
        for name in ("image_folder", "image_dir", "image_root", "data_path")
    },
    **{
        f"content parts as text, {written[:4]}": (
            {"messages": [{"role": "user", "content": written}, ASSISTANT]},
            r"expected the content parts of messages\[0\] as a list, got a text that writes them",
            {"messages": [{"role": "user", "content": parts}, ASSISTANT]},
        )
        for parts in ([{"type": "image", "image": "0.png"}, {"type": "text", "text": "Colour?"}],)
        for written in (json.dumps(parts), str(parts), str(parts[0]))
    },
    "a file name between parts": (
        {"messages": [{"role": "user", "content": ["Colour?", "0.png"]}, ASSISTANT]},
        r"expected messages\[0\].content\[1\] to say whether it is a text or an image, got '0.png'",
        {"messages": [{"role": "user", "content": ["Colour?", {"type": "image", "image": "0.png"}]}, ASSISTANT]},
    ),
    **{
        f"a text of an image, {key}": (
            {"question": "Which?", "images": [{"path": "0.png", key: "The storm"}], "answer": "3"},
            f"got '{key}', which is not read; write it into the prompt where the image is, and remove the key",
            {"question": "The storm <image> Which?", "images": [{"path": "0.png"}], "answer": "3"},
        )
        for key in ("caption", "alt", "title", "description")
    },
    "two files in one entry": (
        {"question": "Which?", "images": [{"path": "0.png", "url": "1.png"}], "answer": "3"},
        "to be one image, got another as url than as path; remove one of them",
        {"question": "Which?", "images": [{"path": "0.png"}], "answer": "3"},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_row_is_refused_by_name_and_its_remedy_works(write_jsonl, pictures, name):
    check_refused(write_jsonl, *REFUSED[name])


@pytest.mark.parametrize("key", ["path", "image_path", "img", "image_url"])
def test_a_part_that_names_two_files_is_refused(key, tmp_path):
    """The second was dropped without a word."""

    def row(**more):
        part = {"type": "image", "image": "a.png", **more}
        user = {"role": "user", "content": [part, {"type": "text", "text": "What ?"}]}
        (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": [user, {"role": "assistant", "content": "x"}]}))
        return read_examples(tmp_path / "rows.jsonl", check_images=False)

    with pytest.raises(DataError, match=rf"to be one image, got another as {key} than as image; remove one of them"):
        list(row(**{key: "b.png"}))
    for same in ("a.png", "https://host.example/b.png", ""):
        assert [image.ref for image in next(iter(row(**{key: same}))).images] == ["a.png"]
