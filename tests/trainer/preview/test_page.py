"""The page's content, read back from its JSON; how it looks and answers is in test_page_in_browser.py."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from triptych_data.preview.embedding import LEAST_SIDE, MOST_SIDE, side_for
from triptych_data.preview.panels import bins
from triptych_data.preview.payload import fields, shortened
from triptych_trainer.commands.preview import main

SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "mllm_demo.json"


def blocks(page, name):
    found = re.findall(rf'<script type="application/json" id="{name}-\d+">(.*?)</script>', page, re.DOTALL)
    return [item for block in found for item in json.loads(block)]


def rows_of(page):
    return {row["id"] or row["source"]: row for row in blocks(page, "rows")}


def colour(pictures, number):
    with Image.open(io.BytesIO(base64.b64decode(pictures[number].split(",")[1]))) as picture:
        return picture.size, picture.convert("RGB").getpixel((picture.width // 2, picture.height // 2))


@pytest.fixture(scope="module")
def page(data, previewed):
    return previewed(data, max_prompt_tokens=60).read_text(encoding="utf-8")


def test_the_page_asks_for_nothing_from_elsewhere(page):
    outside = page.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in outside
    assert "https://" not in outside
    assert "%%" not in page
    assert set(re.findall(r'(?:src|href)="([^"#]*)', page)) <= {"data:,", ""}


def test_hostile_text_cannot_leave_its_block(page):
    assert page.count("</script>") == page.count("<script type=") + 1
    assert 'document.title = "owned"</script>' not in page
    assert rows_of(page)["hostile"]["turns"][0][1][0].startswith("<script>document.title")
    assert dict(rows_of(page)["screens"]["extras"])["note"].startswith("<script>document.title")


def test_a_row_has_its_turns_images_and_columns(page):
    row = rows_of(page)["screens"]
    assert row["turns"] == [["user", ["Before: ", 0, "\nAfter: after the tap: ", 1, "\nWhat changed?"]]]
    assert row["annotations"] == [None, "after the tap"]
    first, second = row["images"]
    assert (first["name"], first["file"], first["size"], first["model_size"], first["tokens"]) == (
        "before",
        "before.png",
        [112, 56],
        [112, 56],
        8,
    )
    assert (second["name"], second["model_size"]) == ("after", [56, 112])
    assert row["answer"] == "the title"
    assert dict(row["extras"])["kind"] == "gui"
    assert row["tokens"][0] == 16


def test_images_are_kept_once_at_the_size_that_the_model_sees(page):
    rows, pictures = rows_of(page), blocks(page, "pictures")
    assert len(pictures) == 4, "before, after, large, tiny"
    before = {
        rows[name]["images"][0]["picture"] for name in ("screens", "first", "hostile", "missing", "screens-again")
    }
    assert before == {0}
    assert colour(pictures, 0) == ((112, 56), (200, 30, 30))
    (large,) = rows["large"]["images"]
    size, found = colour(pictures, large["picture"])
    assert max(size) == max(large["model_size"])
    assert found == pytest.approx((40, 60, 200), abs=4)


def test_refused_rows_are_counted_and_shown(page):
    rows = rows_of(page)
    assert sum("error" in row for row in rows.values()) == 8, "the hostile text is too long, too"
    assert "<dt>would be refused</dt><dd>8</dd>" in page
    assert rows["missing"]["images"][1]["error"].startswith("no such file below")
    assert rows["cut"]["error"].endswith("copy the file again, it is cut short")
    assert rows["cut"]["images"][0]["picture"] is None
    assert rows["shape"]["values"] == [["id", "shape"], ["text", "no known columns"]]
    assert "prompt tokens" in rows["large"]["error"]
    index = json.loads(re.search(r'id="index">(.*?)</script>', page)[1])
    assert index["limits"] == [60, None]
    names = [[index["problems"][k] for k in problems] for problems in index["rowProblems"]]
    assert names[4] == ["refused: missing images"]
    assert index["images"] == [2, 2, 1, 1, 2, 0, 0, 0, 1, 1, 2, 0, 1, 1]


def test_images_beyond_the_budget_are_named(data, previewed):
    page = previewed(data, max_bytes=700).read_text(encoding="utf-8")
    pictures = blocks(page, "pictures")
    assert 0 < sum(map(len, pictures)) <= 700
    assert "pictures not embedded" in page
    images = [image for row in blocks(page, "rows") for image in row.get("images", ())]
    left_out = [image for image in images if image["picture"] is None and "error" not in image]
    assert {"large.jpg"} <= {image["file"] for image in left_out}
    assert all("model_size" in image for image in left_out)


def test_half_a_character_does_not_stop_the_page(tmp_path, previewed):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"problem": "cut \\ud83d here", "answer": "x"}\n')
    for model in (False, True):
        (row,) = blocks(previewed(path, model=model).read_text(encoding="utf-8"), "rows")
        assert "expected whole characters, got half of one" in row["error"]


def test_turns_of_a_sharegpt_conversation(tmp_path, previewed):
    Image.new("RGB", (84, 56), "red").save(tmp_path / "a.png")
    texts = ["<image>Who are they?", "Two people.", "And here? <image>", "The same."]
    messages = [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(texts)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"messages": messages, "images": ["a.png", "a.png"]}]))
    (row,) = blocks(previewed(path).read_text(encoding="utf-8"), "rows")
    assert row["turns"] == [
        ["user", [0, "Who are they?"]],
        ["assistant", ["Two people."]],
        ["user", ["And here? ", 0]],
    ]
    assert (row["answer"], row["notes"]) == ("The same.", ["one image at several markers"])
    assert row["tokens"][0] == 12, "two markers of one image of six tokens"


@pytest.mark.skipif(not SAMPLE.exists(), reason="the sample lies beside the repository")
def test_llama_factorys_sample(tmp_path, model_dir, capsys):
    out = tmp_path / "p.html"
    options = [str(SAMPLE), "--image_root", str(SAMPLE.parent), "--model", str(model_dir), "-o", str(out), "--quiet"]
    assert main(options) == 0
    assert capsys.readouterr().out.startswith(f"preview: {out} (6 rows, 6 images, 0 would be refused")
    page = out.read_text(encoding="utf-8")
    row = blocks(page, "rows")[0]
    assert [role for role, _ in row["turns"]] == ["user", "assistant", "user"]
    assert row["turns"][2][1] == ["What are they doing?", 0]
    assert row["answer"] == "They are celebrating on the soccer field."
    assert len(blocks(page, "pictures")) == 3


def test_texts_are_cut_and_values_described():
    assert shortened("x" * 20) == "x" * 20
    assert shortened("x" * 20, longest=5) == ["xxxxx", 15]
    assert fields({"a": b"12", "b": [1, float("nan")], "c": "t"}) == [
        ["a", '"<2 bytes>"'],
        ["b", "[1, NaN]"],
        ["c", "t"],
    ]


@pytest.mark.parametrize("values", [[5], [0, 1, 2, 2], [10, 999], [3, 100_000], [7, 31]])
def test_bins_are_even_whole_and_hold_every_value(values):
    found = bins(values)
    widths = {stop - start for start, stop, _ in found}
    assert len(widths) == 1
    assert len(found) <= 26
    for start, stop, number in found:
        assert number == sum(start <= value < stop for value in values)
    assert sum(number for _, _, number in found) == len(values)


def test_more_images_are_kept_smaller():
    sizes = [(600, 800), (1400, 700), (56, 56)]
    sides = [side_for(sizes, num_images=count, max_bytes=64 << 20) for count in (3, 1_000, 3_000, 10**9)]
    assert sides == sorted(set(sides), reverse=True)
    assert (sides[0], sides[-1]) == (MOST_SIDE, LEAST_SIDE)
    assert side_for([(56, 56)], num_images=20_000, max_bytes=64 << 20) == MOST_SIDE, "they are small as they are"
