"""The page of `triptych chat` and its questions, over HTTP on this machine, with a real small model."""

import base64
import io
import json
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from PIL import Image
from triptych_data import ImageLoader
from triptych_trainer.chat.answer import shown_tokens
from triptych_trainer.cli import main
from triptych_trainer.commands.chat import chat_server
from triptych_trainer.options.chat_options import parser

DROP = """(pictures) => {
  const data = new DataTransfer();
  for (const [name, text] of pictures) {
    data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name, { type: "image/png" }));
  }
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
}"""
"""Drop files on the page as a user does; each is a name and its content."""


def png(width, height, colour):
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


@contextmanager
def running(model_dir, *words):
    namespace = parser().parse_args([str(model_dir), "--port", "0", "--max_completion_length", "6", *words])
    with ImageLoader(threads=1) as loader, chat_server(namespace, loader) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(model_dir):
    with running(model_dir) as server:
        yield server


def ask(server, text, images=(), *, path="ask", kind="application/json", address=None, **more):
    body = {"messages": [{"role": "user", "content": text}], "images": list(images), **more}
    request = urllib.request.Request(
        (address or server.address) + path, data=json.dumps(body).encode(), headers={"Content-Type": kind}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_an_answer_shows_every_image_where_the_model_read_it(server):
    reply = ask(server, "Before : <image:2> . After : <image:1> .", [png(56, 56, "red"), png(84, 56, "blue")])
    shown = [piece for piece in reply["prompt"] if not isinstance(piece, str)]
    assert [piece["image"] for piece in shown] == [2, 1]
    assert [piece["tokens"] for piece in shown] == [6, 4]
    texts = "".join(piece if isinstance(piece, str) else f"[{piece['image']}]" for piece in reply["prompt"])
    assert "Before : <|vision_start|>[2]<|vision_end|> . After : <|vision_start|>[1]<|vision_end|> ." in texts
    assert (
        sum(1 if isinstance(piece, str) else piece["tokens"] for piece in reply["prompt"])
        == (reply["num_prompt_tokens"])
    )
    assert [(image["width"], image["height"]) for image in reply["images"]] == [(56, 56), (84, 56)]
    seen = Image.open(io.BytesIO(base64.b64decode(reply["images"][1]["seen"].partition(",")[2])))
    assert seen.getpixel((0, 0)) == (0, 0, 255)
    assert len(reply["tokens"]) <= 6
    assert reply["finish"] in ("stop", "length")


def test_images_without_a_marker_come_first(server):
    reply = ask(server, "what", [png(56, 56, "red")], max_tokens=1)
    text = "".join(piece if isinstance(piece, str) else f"[{piece['image']}]" for piece in reply["prompt"])
    assert text.index("[1]") < text.index("what")


def test_the_same_question_has_the_same_greedy_answer_and_a_temperature_is_used(server):
    asked = ("Which one ? <image>", [png(56, 56, "green")])
    assert ask(server, *asked)["tokens"] == ask(server, *asked)["tokens"]
    assert len({tuple(ask(server, *asked, temperature=5)["tokens"]) for _ in range(4)}) > 1


@pytest.mark.parametrize(
    ("text", "images", "more", "said"),
    [
        ("look <image> <image>", [png(56, 56, "red")], {}, "image"),
        ("look <image>", ["bm8gaW1hZ2U="], {}, "image"),
        ("look", ["%%%"], {}, "expected JSON with messages"),
        ("look", [], {"temperature": -1}, "expected a temperature from 0 to 10"),
        ("look", [], {"messages": []}, "expected messages of system, user, assistant"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_sentence(server, text, images, more, said):
    error = ask(server, text, images, **more)["error"]
    assert said in error
    assert "\n" not in error


def test_nobody_else_can_ask(server):
    """Other pages know no secret, cannot send JSON, and reach this machine under their own name only."""
    for changed in (
        {"address": server.address.replace(server.secret, "guess")},
        {"kind": "text/plain"},
        {"path": "elsewhere"},
        {"address": server.address.replace("127.0.0.1", "127.0.0.1.")},
    ):
        with pytest.raises((urllib.error.HTTPError, urllib.error.URLError)) as refused:
            ask(server, "look", **changed)
        assert getattr(refused.value, "code", 404) == 404


def test_the_page_is_whole(server):
    with urllib.request.urlopen(server.address, timeout=10) as response:
        html, policy = response.read().decode(), response.headers["Content-Security-Policy"]
    assert "%%" not in html
    assert 'value="6"' in html
    assert "default-src 'none'" in policy
    for name in ("chat.css", "chat.js"):
        with urllib.request.urlopen(server.address + name, timeout=10) as response:
            assert response.read()


@pytest.mark.slow
def test_the_page_in_a_browser(server, browser, tmp_path):
    """Two files are dropped and one is chosen; the answer shows each image at its marker."""
    troubles = []
    page = browser.new_page()
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(server.address)
    page.evaluate(DROP, [["green.png", png(56, 56, "green")], ["blue.png", png(56, 84, "blue")]])
    page.get_by_role("button", name="insert <image:2>").wait_for(timeout=20_000)
    file = tmp_path / "red.png"
    Image.new("RGB", (84, 56), "red").save(file)
    page.get_by_label("Images").set_input_files([file])
    page.get_by_label("Message", exact=True).fill("Not <image:2> but <image:1> or ")
    page.get_by_role("button", name="insert <image:3>").click()
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("img", name="image 3 as the model sees it").wait_for(timeout=20_000)
    assert [text.split(" · ")[0] for text in page.locator(".shown").all_inner_texts()] == [
        "image 2",
        "image 1",
        "image 3",
    ]
    assert "6 tokens, " in page.locator(".shown").last.inner_text()
    for _ in range(2):
        page.get_by_role("button", name="remove").first.click()
    page.get_by_role("button", name="remove").click()
    page.get_by_role("button", name="Ask").click()
    page.locator("#status.error").wait_for(timeout=20_000)
    page.screenshot(path=tmp_path / "chat.png", full_page=True)
    assert len([text for text in troubles if text]) == 0
    page.close()


def test_pieces_of_an_image_in_several_runs():
    from triptych_parser import ImageSpan

    span = ImageSpan(start=1, length=6, image=0, runs=((2, 2), (5, 1)))
    pieces = shown_tokens(list(range(8)), (span,), lambda ids: str(ids[0]))
    first, second = ({"image": 1, "start": start, "tokens": tokens} for start, tokens in ((2, 2), (5, 1)))
    assert pieces == ["0", "1", first, "4", second, "6", "7"]


def test_a_model_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["chat", str(tmp_path / "gone")]) == 2
    assert "gone" in capsys.readouterr().err
