"""The page in a real browser."""

import json
from itertools import pairwise

import pytest
from PIL import Image

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page_path(data, previewed):
    return previewed(data, max_prompt_tokens=60)


@pytest.fixture(scope="module")
def many(tmp_path_factory, previewed):
    """40 rows with 0 to 3 images."""
    folder = tmp_path_factory.mktemp("many")
    for k in range(3):
        Image.new("RGB", (56, 56), (80 * k, 60, 120)).save(folder / f"{k}.png")
    path = folder / "rows.jsonl"
    rows = [
        {
            "id": f"r{n:02d}",
            "problem": "look " * (n + 1) + "<image>" * (n % 4),
            "images": ["0.png", "1.png", "2.png"][: n % 4],
        }
        for n in range(40)
    ]
    path.write_text("".join(json.dumps({**row, "answer": f"answer {row['id']}"}) + "\n" for row in rows))
    return previewed(path)


@pytest.fixture
def opened(open_page, page_path):
    return lambda **options: open_page(page_path, **options)


def shown(page):
    names = page.locator(".group").evaluate_all("cards => cards.map(card => card.getAttribute('aria-label'))")
    return [name.partition(", ")[2] for name in names]


def status(page):
    return page.get_by_role("status").inner_text()


def find(page, text):
    page.get_by_label("Search prompt").fill(text)


def test_the_page_loads_with_summary_rows_and_landmarks(opened):
    page = opened()
    assert page.title() == "rows.jsonl · preview"
    assert status(page) == "14 rows"
    assert page.locator(".group").count() == 10
    assert page.locator("#page").inner_text() == "Page 1 of 2"
    for landmark in ("banner", "main", "contentinfo", "search"):
        assert page.get_by_role(landmark).count() == 1, landmark
    assert page.get_by_role("navigation", name="Pages of rows", exact=True).count() == 1
    for panel in ("Problems", "Images per prompt", "Tokens per prompt"):
        assert page.get_by_role("region", name=panel, exact=True).count() == 1, panel


def test_images_stand_where_the_markers_were_at_the_size_that_the_model_sees(opened, colours_of):
    page = opened()
    find(page, "and again")
    assert shown(page) == ["twice"]
    said = page.locator(".said")
    order = said.evaluate("said => [...said.childNodes].map(node => node.dataset.image ?? node.textContent.trim())")
    assert order == ["See", "0", "and again", "0", "."]
    sides = said.evaluate(
        "said => [...said.childNodes].map(node => node.getBoundingClientRect()).map(box => [box.left, box.right])"
    )
    for (_, right), (left, _) in pairwise(sides):
        assert right <= left + 1
    find(page, "Before:")
    card = page.locator(".group").first
    assert card.locator(".said").inner_text().split("\n")[0].startswith("Before:")
    boxes = [image.bounding_box() for image in card.locator(".marker img").all()]
    assert [(box["width"], box["height"]) for box in boxes] == [(112, 56), (56, 112)]
    assert colours_of(card.locator(".marker img")) == ["200,30,30", "30,160,60"]
    find(page, "what no row has")
    assert page.locator(".none").inner_text().startswith("No row fits")


def test_a_shrunk_image_is_drawn_at_the_models_size_and_says_so(opened):
    page = opened()
    page.get_by_label("Problem", exact=True).select_option("image shrunk")
    (figure,) = page.locator(".marker").all()
    caption = figure.locator("figcaption").inner_text().splitlines()
    width, height = (int(side) for side in caption[0].split(" · ")[1].split(" × "))
    assert width % 28 == height % 28 == 0
    assert width * height <= 28 * 28 * 64
    tokens = width * height // 28**2
    assert caption == [f"image 1 · {width} × {height} · {tokens} tokens", "from 700 × 500", "image shrunk"]
    image = figure.locator("img")
    box = image.bounding_box()
    assert (box["width"], box["height"]) == pytest.approx((width, height), abs=0.5)
    assert image.get_attribute("alt") == f"image 1 of 1, {width} x {height}, {tokens} tokens"
    page.get_by_label("Draw images").select_option("small")
    assert image.bounding_box()["height"] == 132


def test_names_annotations_answer_and_further_columns(opened):
    page = opened()
    card = page.locator(".group").first
    assert [text.splitlines() for text in card.locator("figcaption").all_inner_texts()] == [
        ["image 1 · before · 112 × 56 · 8 tokens"],
        ["image 2 · after · 56 × 112 · 8 tokens", "“after the tap”"],
    ]
    assert card.locator(".marker img").nth(1).get_attribute("alt") == "image 2 of 2, after, 56 x 112, 8 tokens"
    assert card.locator(".answer").inner_text() == "answerthe title"
    assert card.locator(".where").inner_text() == "rows.jsonl:1"
    columns = card.locator("details.columns")
    assert not columns.locator("dd").first.is_visible()
    columns.locator("summary").click()
    assert columns.locator("dt").all_inner_texts() == ["kind", "note"]
    assert columns.locator("dd").first.inner_text() == "gui"


def test_hostile_text_stays_text(opened):
    page = opened()
    find(page, "owned")
    said = page.locator(".said")
    assert said.inner_text().startswith('<script>document.title = "owned"</script><img src=x onerror=alert(1)>')
    assert said.locator("script").count() == 0
    assert said.locator("img").count() == 1, "its own image"
    assert page.title() == "rows.jsonl · preview"


def test_refused_rows_show_their_error_and_what_could_be_read(opened):
    page = opened()
    page.get_by_label("Problem", exact=True).select_option("refused")
    assert status(page) == "8 rows of 14"
    card = page.get_by_role("article", name="Row 5, missing")
    assert "(id missing): image 2 of 2, gone.png: no such file below" in card.locator(".error").inner_text()
    assert card.locator(".gone.bad .path").inner_text() == "gone.png"
    assert card.locator(".marker img").count() == 1
    shape = page.get_by_role("article", name="Row 8, shape")
    assert shape.locator("dd").all_inner_texts() == ["shape", "no known columns"]


def test_budget_bars_and_what_is_over(opened):
    page = opened()
    page.get_by_label("Problem", exact=True).select_option("refused: prompts over the budget")
    assert shown(page) == ["hostile", "large"]
    bar = page.get_by_role("article", name="Row 9, large").locator(".budget")
    assert "over" in bar.get_attribute("class")
    words = bar.locator(".budget-text").inner_text().replace(",", " ").split()
    images, text, total, limit, over = (int(word) for word in words if word.isdigit())
    assert limit == 60
    assert images + text == total == 60 + over
    widths = [piece.bounding_box()["width"] for piece in bar.locator(".track i").all()[:2]]
    track = bar.locator(".track").bounding_box()["width"]
    assert widths == pytest.approx([track * images / total, track * text / total], abs=1)
    mark = bar.locator(".limit").bounding_box()["x"] - bar.locator(".track").bounding_box()["x"]
    assert mark == pytest.approx(track * 60 / total, abs=1)
    assert bar.get_by_role("img").get_attribute("aria-label").startswith(f"prompt: {images} image + {text} text = ")


def test_bars_of_the_summary_filter(opened):
    page = opened()
    page.get_by_role("button", name="refused: missing images").click()
    assert shown(page) == ["missing"]
    page.get_by_role("button", name="refused: missing images").click()
    assert status(page) == "14 rows"
    bar = page.locator("#panel-counts .bar").filter(has_text="2")
    bar.first.click()
    assert page.get_by_label("Images", exact=True).input_value() == "2"
    assert shown(page) == ["screens", "first", "missing", "screens-again"]


def test_paging_by_clicking_and_by_keyboard(open_page, many):
    page = open_page(many)
    assert shown(page) == [f"r{n:02d}" for n in range(10)]
    page.locator("#next").click()
    assert shown(page)[0] == "r10"
    page.locator("#next-below").click()
    page.keyboard.press("n")
    assert (shown(page)[0], page.locator("#next").is_disabled()) == ("r30", True)
    page.keyboard.press("ArrowRight")
    assert shown(page)[0] == "r30"
    page.keyboard.press("p")
    page.keyboard.press("ArrowLeft")
    assert shown(page)[0] == "r10"
    page.keyboard.press("/")
    page.keyboard.type("answer r3n")
    assert page.get_by_label("Search prompt").input_value() == "answer r3n", "n is a letter here"
    page.keyboard.press("Backspace")
    assert status(page) == "10 rows of 40"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.tagName") == "BODY"


def test_order_by_tokens_and_filter_by_images(open_page, many):
    page = open_page(many)
    page.get_by_label("Order").select_option("most")
    assert shown(page)[:2] == ["r39", "r38"]
    page.get_by_label("Order").select_option("fewest")
    assert shown(page)[0] == "r00"
    page.get_by_label("Images", exact=True).select_option("3")
    assert (status(page), shown(page)[0]) == ("10 rows of 40", "r03")
    assert page.locator(".group").first.locator("img").count() == 3


def test_the_address_keeps_the_state(open_page, many):
    page = open_page(many)
    page.get_by_label("Images", exact=True).select_option("1")
    page.get_by_label("Order").select_option("most")
    find(page, "look")
    fragment = page.evaluate("location.hash")
    again = open_page(many, fragment=fragment)
    assert shown(again) == shown(page)
    assert again.get_by_label("Search prompt").input_value() == "look"
    link = page.locator(".group h3 a").nth(2)
    target = open_page(many, fragment=link.get_attribute("href"))
    assert target.locator(".group.chosen").get_attribute("aria-label") == "Row 30, r29"
    page.evaluate("location.hash = '#page=2'")
    page.wait_for_function("document.querySelector('.group').dataset.row === '10'")


def test_an_image_opens_large_in_a_dialog(opened):
    page = opened()
    image = page.locator(".group").first.get_by_role("button", name="image 2 of 2, after").first
    image.click()
    dialog = page.get_by_role("dialog", name="image 2 of 2, after, 56 x 112, 8 tokens")
    assert dialog.is_visible()
    assert dialog.locator("img").bounding_box()["height"] > 600
    page.keyboard.press("ArrowRight")
    assert dialog.count() == 0
    assert page.get_by_role("dialog", name="image 1 of 2, before").is_visible()
    assert page.locator("#viewer-text").inner_text().startswith("before.png")
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0
    assert image.evaluate("node => node === document.activeElement"), "the focus is back"
    assert shown(page)[0] == "screens", "the arrow turned no page"


def test_without_a_model_no_tokens_are_claimed(open_page, previewed, data):
    page = open_page(previewed(data, model=False))
    card = page.locator(".group").first
    assert card.locator("figcaption").first.inner_text() == "image 1 · before · 112 × 56"
    assert card.locator(".budget").count() == 0
    assert page.get_by_label("Order").locator("option").all_inner_texts() == ["as in the file", "most images"]
    assert "token" not in page.locator("main").inner_text().replace("most tokens", "")


def test_it_searches_where_browsers_have_no_idle_callback(open_page, many):
    page = open_page(many, before="delete window.requestIdleCallback")
    find(page, "answer r17")
    assert shown(page) == ["r17"]
    find(page, "")
    page.wait_for_timeout(100)
    find(page, "answer r39")
    assert shown(page) == ["r39"]


def test_a_narrow_window_does_not_scroll_sideways(opened):
    page = opened(viewport={"width": 390, "height": 800}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_keyboard_reaches_the_rows_first(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "rows"
    assert page.evaluate("location.hash") == ""


def test_ten_thousand_rows_one_page_of_them_in_the_document(open_page, previewed, tmp_path):
    for k in range(3):
        Image.new("RGB", (56, 56), (80 * k, 60, 120)).save(tmp_path / f"{k}.png")
    path = tmp_path / "rows.jsonl"
    with path.open("w") as lines:
        for n in range(10_000):
            images = [f"{j}.png" for j in range(n % 4)]
            prompt = f"{'<image> ' * (n % 4)}Which of these is number {n} ?"
            lines.write(json.dumps({"id": f"row-{n}", "problem": prompt, "images": images, "answer": "x"}) + "\n")
    page = open_page(previewed(path, model=False))
    assert (status(page), page.locator("#page").inner_text()) == ("10,000 rows", "Page 1 of 1,000")
    assert page.locator(".group").count() == 10
    page.get_by_label("Images", exact=True).select_option("3")
    assert (status(page), shown(page)[:2]) == ("2,500 rows of 10,000", ["row-3", "row-7"])
    find(page, "number 9999 ")
    assert (status(page), shown(page)) == ("1 row of 10,000", ["row-9999"])
    find(page, "")
    page.evaluate("location.hash = '#page=1000'")
    page.wait_for_function("document.querySelector('.group').dataset.row === '9990'")
    assert shown(page) == [f"row-{n}" for n in range(9_990, 10_000)]
    assert page.locator(".marker img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 56
    assert page.evaluate("document.querySelectorAll('*').length") < 1_000
