"""What would be left out of a prompt unseen is refused by name, and the remedy that is named works on that very row."""

from __future__ import annotations

from typing import Any

import pytest
from triptych_data import DataError, Example, read_examples

HUMAN, GPT = {"from": "human", "value": "Colour?"}, {"from": "gpt", "value": "red"}
SYSTEM = {"from": "system", "value": "Be brief."}
USER, ASSISTANT = {"role": "user", "content": "Colour?"}, {"role": "assistant", "content": "red"}
TALK = {"conversations": [HUMAN, GPT]}
ASK = {"problem": "Colour?", "answer": "red"}
PNG = {"path": "0.png"}


def part(**keys: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [keys, {"type": "text", "text": "Colour?"}]}, ASSISTANT]}


# (row, what the message says, the same row after the named remedy)
REFUSED: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
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
    # names for one thing that give two
    "two images": (
        {**ASK, "images": ["0.png"], "image": "1.jpg", "problem": "<image>Colour?"},
        "got different ones in images and image",
        {**ASK, "images": ["0.png"], "problem": "<image>Colour?"},
    ),
    "image and path": (
        {**ASK, "image": "0.png", "path": "1.jpg"},
        "got different ones in image and path",
        {**ASK, "image": "0.png"},
    ),
    "parts and column": (
        {**part(type="image", image="0.png"), "image": "1.jpg"},
        "got different ones in the content parts and image",
        part(type="image", image="0.png"),
    ),
    "two answers": (
        {**ASK, "solution": "blue"},
        "different ones in answer and solution",
        {**ASK, "reward_solution": "blue"},
    ),
    "a digit of a number": (
        {**ASK, "answer": "3", "solution": "so it is 13"},
        "different ones in answer and solution",
        {**ASK, "answer": "3", "solution": "so it is <answer>3</answer>"},
    ),
    "a letter of a word": (
        {**ASK, "answer": "A", "solution": "CAT"},
        "different ones in answer and solution",
        {**ASK, "answer": "A", "solution": "A. CAT"},
    ),
    "a sign and a fraction": (
        {**ASK, "answer": "3", "solution": "-3 or 3.5"},
        "different ones in answer and solution",
        {**ASK, "answer": "3", "solution": "-3 or 3."},
    ),
    "ground truth as text": (
        {"prompt": "Colour?", "reward_model": '{"ground_truth": "red"}', "answer": "blue"},
        "different ones in answer and reward_model.ground_truth",
        {"prompt": "Colour?", "reward_model": '{"ground_truth": "blue"}'},
    ),
    "ground truth": (
        {"prompt": "Colour?", "reward_model": {"ground_truth": "red"}, "answer": "blue"},
        "different ones in answer and reward_model.ground_truth",
        {"prompt": "Colour?", "answer": "blue"},
    ),
    "turn and column": (
        {**TALK, "solution": "blue"},
        "different ones in solution and the assistant's last turn",
        {"conversations": [HUMAN], "solution": "blue"},
    ),
    "two questions": (
        {**ASK, "question": "Size?"},
        "different texts in problem and question",
        {**ASK, "reward_question": "Size?"},
    ),
    "messages and prompt": (
        {"messages": [USER, ASSISTANT], "prompt": "Size?"},
        "different texts in messages and prompt",
        {"messages": [USER, ASSISTANT]},
    ),
    "a marker in one of two": (
        {"problem": "Colour?", "prompt": "<image>Colour", "image": "0.png", "answer": "x"},
        "different texts in",
        {"prompt": "<image>Colour?", "image": "0.png", "answer": "x"},
    ),
    "two systems": (
        {"conversations": [SYSTEM, HUMAN, GPT], "system": "Be long."},
        "got one in conversations and another in the column system",
        {"conversations": [SYSTEM, HUMAN, GPT]},
    ),
    "role and from": (
        {"messages": [{**USER, "from": "gpt"}, ASSISTANT]},
        r"expected one of role and from in messages\[0\], got both",
        {"messages": [USER, ASSISTANT]},
    ),
    **{
        f"a system text in {name}": (
            {**ASK, name: "Be brief."},
            f"expected the system text in the column system, got the column {name}",
            {**ASK, "system": "Be brief."},
        )
        for name in ("sys", "systemPrompt", "system prompt", "system_text")
    },
    # who speaks
    "nobody says anything": (
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " "}, ASSISTANT]},
        "expected a text or an image from the user, got neither in messages; write the question",
        {"messages": [{"role": "system", "content": "Be brief."}, USER, ASSISTANT]},
    ),
    "no answer": (
        {"image": "0.png", "conversations": [SYSTEM, HUMAN]},
        "expected conversations of several turns to end with an answer by the assistant",
        {"image": "0.png", "conversations": [SYSTEM, HUMAN, GPT]},
    ),
    "wrong order": (
        {"conversations": [GPT, HUMAN]},
        "expected conversations to begin with the user, got a turn by the assistant first",
        {"conversations": [HUMAN]},
    ),
    "nobody asks": (
        {"messages": [{"role": "system", "content": "x"}, ASSISTANT]},
        "expected a turn by the user in messages, got assistant and system alone",
        {"messages": [{"role": "system", "content": "x"}, USER, ASSISTANT]},
    ),
    "a prompt that goes on": (
        {"prompt": [USER, ASSISTANT]},
        "expected the prompt in prompt to end with the user, got a turn by the assistant last",
        {"prompt": [USER], "answer": "red"},
    ),
    "two answers in a row": (
        {"messages": [USER, ASSISTANT, ASSISTANT]},
        "got a turn by the assistant last",
        {"messages": [USER, ASSISTANT]},
    ),
    "unknown role": (
        {"messages": [{"role": "robot", "content": "x"}]},
        "expected role to be one of user, assistant.*got 'robot' in messages",
        {"messages": [{"role": "user", "content": "x"}]},
    ),
    "no content": (
        {"messages": [USER, {"role": "assistant", "content": None}]},
        r"expected messages\[1\].content to be text or parts, got null",
        {"messages": [USER]},
    ),
    "other keys": (
        {"messages": [{"who": "user", "what": "x"}]},
        "to have the keys role and content or from and value, got who, what",
        {"messages": [{"role": "user", "content": "x"}]},
    ),
    # tools, limits, options, texts
    "tools": (
        {"prompt": [USER], "tools": [{"name": "zoom"}]},
        "got the column tools",
        {"prompt": [USER], "system": 'Tools: {"name": "zoom"}'},
    ),
    "tool calls": (
        {"messages": [USER, {**ASSISTANT, "tool_calls": [{"name": "zoom"}]}, USER, ASSISTANT]},
        r"expected messages\[1\] to have only a role and its content, got 'tool_calls'",
        {"messages": [USER, {"role": "assistant", "content": "zoom()"}, USER, ASSISTANT]},
    ),
    "tools by another name": (
        {"prompt": [USER], "available_tools": '[{"name": "zoom"}]'},
        "got the column available_tools",
        {"prompt": [USER], "system": 'Tools: {"name": "zoom"}'},
    ),
    "a text beside the content": (
        {"messages": [{**USER, "context": "It is a car."}, ASSISTANT]},
        r"expected messages\[0\] to have only a role and its content, got 'context'",
        {"messages": [{"role": "user", "content": "It is a car. Colour?"}, ASSISTANT]},
    ),
    "a file beside the content": (
        {"messages": [{**USER, "attachments": ["0.png"]}, ASSISTANT]},
        r"expected messages\[0\] to have only a role and its content, got 'attachments'",
        {"messages": [USER, ASSISTANT], "image": "0.png"},
    ),
    "two texts in a part": (
        part(type="text", text="Look.", content="Twice."),
        r"expected messages\[0\].content\[0\] to contain only text, got 'content' as well; give each its own part",
        part(type="text", text="Look. Twice."),
    ),
    "an image beside the answer's text": (
        {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "red", "image": "0.png"}]}]},
        r"expected messages\[1\].content\[0\] to contain only text, got 'image' as well",
        {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "red"}]}]},
    ),
    "template arguments": (
        {**ASK, "chat_template_kwargs": {"enable_thinking": False}},
        "got the column chat_template_kwargs",
        ASK,
    ),
    "row size": (
        {**ASK, "image": "0.png", "resized_height": 56},
        "got the column resized_height",
        {**ASK, "image": {**PNG, "resized_height": 56, "resized_width": 56}},
    ),
    "half a size": (
        {**ASK, "image": {**PNG, "resized_height": 56}},
        "expected resized_height and resized_width of image 1, got one",
        {**ASK, "image": {**PNG, "resized_height": 56, "resized_width": 56}},
    ),
    "limit at a placeholder": (
        {**part(type="image", max_pixels=4000), "image": "0.png"},
        "expected max_pixels of messages",
        {**part(type="image"), "image": [{**PNG, "max_pixels": 4000}]},
    ),
    "limits crossed": (
        {**ASK, "image": {**PNG, "min_pixels": 9000, "max_pixels": 4000}},
        r"expected min_pixels of image 1 to be at most max_pixels \(4000\), got 9000",
        {**ASK, "image": {**PNG, "max_pixels": 4000}},
    ),
    "an image's own key": (
        {**ASK, "image": {**PNG, "jigsaw_config": [2, 2]}},
        "expected image 1 to have the keys .*got 'jigsaw_config', which is not read",
        {**ASK, "image": PNG},
    ),
    "a crop in a part": (
        part(type="image", image="0.png", crop=[0, 0, 9, 9]),
        "got 'crop', which is not read",
        part(type="image", image="0.png"),
    ),
    "detail": (
        part(type="image_url", image_url={"url": "0.png", "detail": "low"}),
        "give max_pixels instead",
        part(type="image_url", image_url={"url": "0.png"}, max_pixels=4000),
    ),
    "options": (
        {**ASK, "options": ["red", "blue"]},
        r"expected the options in the question, or with letters, got \['red', 'blue'\]",
        {**ASK, "options": ["A. red", "B. blue"]},
    ),
    "an option in a column each": (
        {**ASK, "A": "red", "B": "blue"},
        "expected the options in the prompt, got the columns A, B, which are not read",
        {**ASK, "A": "red", "B": "blue", "options": ["A. red", "B. blue"]},
    ),
    "options by number": (
        {**ASK, "option_1": "red", "option_2": "blue"},
        "expected the options in the prompt, got the columns option_1, option_2",
        {**ASK, "problem": "Colour, red or blue?", "option_1": "red", "option_2": "blue"},
    ),
    "options of a conversation": (
        {**TALK, "choices": ["A. red", "B. blue"]},
        "expected the choices in the prompt",
        {
            "conversations": [{"from": "human", "value": "Colour?\nA. red\nB. blue"}, GPT],
            "choices": ["A. red", "B. blue"],
        },
    ),
    "instruction": (
        {**ASK, "instruction": "Answer in French."},
        "got the column instruction, which is not read",
        {**ASK, "problem": "Colour? Answer in French."},
    ),
    **{
        name: (
            {**ASK, name: "It is a car."},
            f"expected the whole text in the prompt, got the column {name}, which is not read",
            {**ASK, f"reward_{name}": "It is a car."},
        )
        for name in ("context", "passage", "hint", "instructions", "prompt_suffix")
    },
    "history": (
        {"messages": [USER, ASSISTANT], "history": [["a", "b"]]},
        "got the column history",
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, USER, ASSISTANT]},
    ),
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
    # objects
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


def said(example: Example) -> list[list[str | int]]:
    return example.prompt.pieces()


@pytest.mark.parametrize("name", REFUSED)
def test_a_row_is_refused_by_name_and_its_remedy_works(write_jsonl, pictures, name):
    row, message, repaired = REFUSED[name]
    path = write_jsonl([{"id": 7, **row}])
    with pytest.raises(DataError, match=message) as caught:
        read_examples(path)
    assert str(caught.value).startswith(f"{path}:1 (id 7): ")
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    (example,) = read_examples(write_jsonl([repaired]))
    assert said(example)[0]
