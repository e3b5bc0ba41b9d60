"""Tools, limits, options and texts that would not reach the prompt are refused by name."""

import pytest
from refused_rows import ASK, ASSISTANT, GPT, PNG, TALK, USER, Refused, check_refused, part

REFUSED: Refused = {
    "a limit written as text": (
        {**ASK, "image": "0.png", "max_pixels": "200704"},
        "expected max_pixels to be a number of pixels, 1 or more, got '200704'; write it without quotes: 200704",
        {**ASK, "image": "0.png", "max_pixels": 200704},
    ),
    "a limit that is no number": (
        {**ASK, "image": {"path": "0.png", "min_pixels": "auto"}},
        "min_pixels to be a number of pixels, 1 or more, got 'auto'; write a number, or remove min_pixels",
        {**ASK, "image": {"path": "0.png"}},
    ),
    **{
        f"a limit called {name}": (
            {**ASK, "image": {"path": "0.png", name: 3136}},
            f"got '{name}', which is not read; call it {limit}",
            {**ASK, "image": {"path": "0.png", limit: 3136}},
        )
        for name, limit in (("min-pixels", "min_pixels"), ("maxPixels", "max_pixels"), ("MAX_PIXELS", "max_pixels"))
    },
    "a column of a limit called otherwise": (
        {**ASK, "image": "0.png", "max-pixels": 3136},
        "got the column max-pixels, which is not read; call it max_pixels",
        {**ASK, "image": "0.png", "max_pixels": 3136},
    ),
    "a letter for options with numbers": (
        {**ASK, "answer": "B", "options": ["1. red", "2. blue"]},
        "expected the answer to be the letter or the text of one of the options, got the letter B, which no option is",
        {**ASK, "answer": "2", "options": ["1. red", "2. blue"]},
    ),
    # keys of messages and parts
    **{
        f"{key} of a user": (
            {"messages": [{**USER, key: "a1"}, ASSISTANT]},
            rf"expected {key} in a message by the {owner} alone, got it in messages\[0\] by the user; write it into",
            {"messages": [{**USER, "content": "Colour? a1"}, ASSISTANT]},
        )
        for key, owner in (("tool_call_id", "tool"), ("reasoning_content", "assistant"))
    },
    "a name that is no text": (
        {"messages": [{**USER, "name": {"first": "kim"}}, ASSISTANT]},
        r"expected messages\[0\].name to be text, got dict; write it as text, or remove it",
        {"messages": [{**USER, "name": "kim"}, ASSISTANT]},
    ),
    **{
        f"{key} of a message": (
            {"messages": [{**USER, key: 2}, ASSISTANT]},
            rf"only a role and its content, got '{key}' as well, which is not read; .*remove it",
            {"messages": [USER, ASSISTANT]},
        )
        for key in ("fps", "nframes", "min_frames", "video_start", "total_pixels", "max_dynamic_patch", "crop")
    },
    **{
        f"{key} of a text": (
            part(type="text", text="Look.", **{key: 2}),
            rf"messages\[0\].content\[0\] to contain only text, got '{key}' as well; give it with the image, or",
            part(type="text", text="Look."),
        )
        for key in ("fps", "num_frames", "video_end", "resized_height", "max_pixels")
    },
    **{
        f"{key} of an image": (
            part(type="image", image="0.png", **{key: 2}),
            rf"expected messages\[0\].content\[0\] to have the keys .*, got '{key}', which is not read; .*remove",
            part(type="image", image="0.png"),
        )
        for key in ("fps", "nframes", "video_start", "total_pixels", "rotation")
    },
    # tools, limits, options, texts
    "tools": (
        {"prompt": [USER], "tools": [{"name": "zoom"}]},
        "got the column tools",
        {"prompt": [USER], "system": 'Tools: {"name": "zoom"}'},
    ),
    "tool calls": (
        {"messages": [USER, {**ASSISTANT, "tool_calls": ["zoom()"]}, USER, ASSISTANT]},
        r"expected messages\[1\].tool_calls to be a list of calls, got 'zoom\(\)' as call 1; write",
        {"messages": [USER, {**ASSISTANT, "tool_calls": [{"name": "zoom", "arguments": {}}]}, USER, ASSISTANT]},
    ),
    **{
        f"options in {name}": (
            {**ASK, "answer": "red", name: ["red", "blue"]},
            f"expected the {name} in the question, or with letters",
            {"problem": "Colour? red or blue?", "answer": "red", name: ["red", "blue"]},
        )
        for name in ("option", "choice_list", "candidates", "mc")
    },
    **{
        f"a text in {name}": (
            {**ASK, name: "Answer in French, please."},
            f"got the column {name}, which is not read; write it into the prompt",
            {"problem": "Colour? Answer in French, please.", "answer": "red", name: "Answer in French, please."},
        )
        for name in ("task_instruction", "post_prompt", "knowledge", "facts", "distractors", "demos")
    },
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
    **{
        name: (
            {**ASK, "image": "0.png", name: 4000},
            f"got the column {name}, which is not read",
            {**ASK, "image": {**PNG, "max_pixels": 4000}},
        )
        for name in ("MAX_PIXELS", "maxPixels", "max_slice_nums")
    },
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
    "the image under another key": (
        part(type="image", value="0.png"),
        "got 'value', which is not read; write the image as a path, an address or a data: address under the key image",
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
    **{
        f"an answer that counts the options, {answer!r}": (
            {**ASK, "options": ["A. red", "B. blue"], "answer": answer},
            "expected the answer to be the letter or the text of one of the options, got the number 1, which no option",
            {**ASK, "options": ["A. red", "B. blue"], "answer": "B"},
        )
        for answer in (1, "<answer>1</answer>")
    },
    "an answer that no option has": (
        {**ASK, "options": ["A. red", "B. blue"], "answer": "C"},
        "expected the answer to be the letter or the text of one of the options, got the letter C, which no option",
        {**ASK, "options": ["A. red", "B. blue"], "answer": "B"},
    ),
    "options by another name": (
        {**ASK, "answer_choices": ["red", "blue"]},
        "expected the answer_choices in the question, or with letters",
        {**ASK, "answer_choices": ["A. red", "B. blue"]},
    ),
    "options beside options": (
        {**ASK, "problem": "red or blue?", "options": ["red", "blue"], "choices": ["big", "small"]},
        r"expected the choices in the question, or with letters, got \['big', 'small'\]",
        {**ASK, "problem": "red or blue?", "options": ["red", "blue"]},
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
        for name in (
            "context",
            "passage",
            "hint",
            "instructions",
            "prompt_suffix",
            "document",
            "few_shot",
            "table",
            "action_history",
        )
    },
    "another conversation": (
        {**ASK, "dialog": [{"role": "user", "content": "Size?"}]},
        "got another one in the column dialog, which is not read; write its turns into the prompt, or call it",
        {**ASK, "reward_dialog": [{"role": "user", "content": "Size?"}]},
    ),
    "history": (
        {"messages": [USER, ASSISTANT], "history": [["a", "b"]]},
        "got the column history",
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, USER, ASSISTANT]},
    ),
    **{
        f"a column in another case, {name}": (
            {"question": "Which one?", "image": "0.png", name: value, "answer": "A"},
            f"expected a column called {meant}, got {name}, which is not read",
            {"question": "Which one?", "image": "0.png", meant: value, "answer": "A"},
        )
        for name, meant, value in (
            ("Options", "options", ["A. x", "B. y"]),
            ("CHOICES", "choices", {"A": "x", "B": "y"}),
            ("answer-choices", "answer_choices", "A. x\nB. y"),
        )
    },
    **{
        f"a question in another case, {name}": (
            {"question": "Which?", name: "Use cm.", "image": "0.png", "answer": "3"},
            f"expected a column called {name.lower()}, got {name}, which is not read",
            {"question": "Which? Use cm.", name: "Use cm.", "image": "0.png", "answer": "3"},
        )
        for name in ("Question", "PROBLEM", "Conversations")
    },
    **{
        f"options in columns of their own, {first}": (
            {"question": "What is it?", "image": "0.png", first: "cat", second: "dog", "answer": "A"},
            "expected the options in the prompt, got the columns",
            {"question": "What is it?", "image": "0.png", "options": ["A. cat", "B. dog"], "answer": "A"},
        )
        for first, second in (("Choice A", "Choice B"), ("OptionA", "OptionB"), ("opt_a", "opt_b"), ("mc_0", "mc_1"))
    },
    "names that begin with a letter": (
        {"question": "Who?", "image": "0.png", "options": ["J. Biden", "D. Trump", "B. Obama"], "answer": "x"},
        "expected the options in the question, or with letters, .* or call the column reward_options",
        {"question": "Who?", "image": "0.png", "reward_options": ["J. Biden", "D. Trump"], "answer": "x"},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_row_is_refused_by_name_and_its_remedy_works(write_jsonl, pictures, name):
    check_refused(write_jsonl, *REFUSED[name])
