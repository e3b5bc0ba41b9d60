"""Two texts where one is expected, and turns in another order, are refused by name."""

import pytest
from refused_rows import ASK, ASSISTANT, GPT, HUMAN, SYSTEM, TALK, USER, Refused, check_refused, part

REFUSED: Refused = {
    "an answer as TriviaQA has it": (
        {**ASK, "answer": {"value": "red", "aliases": ["Red", "scarlet"]}},
        r"expected an answer in answer, got a mapping with aliases; .* as a list, \['red', 'Red', 'scarlet'\]",
        {**ASK, "answer": ["red", "Red", "scarlet"]},
    ),
    "a truth as SQuAD has it": (
        {"prompt": "Colour?", "reward_model": {"ground_truth": {"text": ["red"], "answer_start": [3]}}},
        "expected an answer in reward_model.ground_truth, got a mapping with answer_start",
        {"prompt": "Colour?", "reward_model": {"ground_truth": ["red"]}},
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
    "a user who says nothing at last": (
        {"messages": [USER, ASSISTANT, {"role": "user", "content": " "}], "answer": "red"},
        r"expected a text or an image from the user, got neither in messages\[2\]; write what the user says there",
        {"messages": [USER], "answer": "red"},
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
    "earlier turns next to messages": (
        {"messages": [USER, ASSISTANT], "history": [["Shape?", "round"]]},
        "got the column history, which is not read; write its turns at the start of messages, or call it reward_hist",
        {"messages": [{"role": "user", "content": "Shape?"}, {**ASSISTANT, "content": "round"}, USER, ASSISTANT]},
    ),
    **{
        f"a text for each image in {name}": (
            {**ASK, "images": ["0.png", "2.png"], "problem": "<image><image>Which?", name: ["a ball", "a box"]},
            f"got the column {name}, which is not read; write each next to its image, or call the column reward_{name}",
            {**ASK, "images": ["0.png", "2.png"], "problem": "a ball <image> a box <image>Which?", name: ["a ball"]},
        )
        for name in ("captions", "image_captions", "ocr", "image_text")
    },
    "two answers in a row": (
        {"messages": [USER, ASSISTANT, ASSISTANT]},
        "got a turn by the assistant before the answer; write that turn and the answer as one, or remove it",
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
    **{
        f"a second text, {name}": (
            {"question": "Which?", name: value, "image": "0.png", "answer": "3"},
            f"expected the whole text in the prompt, got the column {name}, which is not read",
            {"question": "Which? In cm. Now.", name: value, "image": "0.png", "answer": "3"},
        )
        for name, value in (
            *((name, "In cm.") for name in ("sub_question", "question_2", "follow_up", "question_text", "user_prompt")),
            *((name, "In cm.") for name in ("sentence", "lecture", "goal", "step_instruction", "format_prompt")),
            *((name, ["In cm.", "Now."]) for name in ("questions", "rules", "history", "previous_actions")),
            *((name, "In cm.") for name in ("question_with_options", "full_question", "prompt_text", "option_text")),
            *((name, "In cm.") for name in ("objective", "constraints", "answer_format", "last_action", "claim")),
            *((name, "In cm.") for name in ("distractor1", "Incorrect Answer 2", "dialogue", "task_description")),
            ("history", "In cm."),
        )
    },
    "a history of messages": (
        {"question": "Which?", "history": [USER], "image": "0.png", "answer": "3"},
        r"expected history to be a list of \[question, answer\], got .*; write it into the prompt, and remove",
        {"question": "Colour? Which?", "image": "0.png", "answer": "3"},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_row_is_refused_by_name_and_its_remedy_works(write_jsonl, pictures, name):
    check_refused(write_jsonl, *REFUSED[name])
