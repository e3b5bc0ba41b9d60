"""The page of ``triptych eval`` in a real browser."""

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def page(open_page, evaluated):
    return open_page(evaluated.page)


def shown(page):
    return page.locator(".group").evaluate_all("cards => cards.map(card => card.dataset.sample)")


def find(page, text):
    page.get_by_label("Sample id, file:line or text").fill(text)


def test_the_page_loads_with_means_and_rows(page):
    assert page.title() == "trained · evaluation"
    for landmark in ("banner", "main", "contentinfo", "search"):
        assert page.get_by_role(landmark).count() == 1, landmark
    assert page.get_by_role("status").inner_text() == "21 rows"
    assert page.locator(".group").count() == 8
    words = page.locator(".said-in-words").inner_text()
    assert words.startswith("accuracy: no clear difference from the base, +0.048 (95 % interval ")
    assert words.endswith("6 of 21 rows better, 5 worse.")
    labels = page.locator(".slice").all_inner_texts()
    assert labels == [
        *("all rows", "images = 2", "images = 3", "kind = swapped", "kind = which"),
        *("answer image = 1", "answer image = 2", "answer image = 3"),
    ]


def test_rows_that_got_worse_come_first_then_wrong_ones(page):
    badges = page.locator(".group .badge.down").all_inner_texts()
    assert badges == ["regressed −1.00"] * 5
    assert page.locator(".group").nth(5).locator(".verdict.wrong").count() == 2


def test_filters_by_clicking(page):
    expected = {"wrong": 10, "regressed": 5, "improved": 6, "both": 5}
    for choice, count in expected.items():
        page.get_by_label("Show").select_option(choice)
        assert page.get_by_role("status").inner_text() == f"{count} rows of 21"
    page.get_by_label("Show").select_option("improved")
    assert "swapped" in shown(page)
    page.get_by_role("button", name="images = 2").click()
    assert shown(page) == ["swapped"]
    assert page.get_by_label("Slice", exact=True).evaluate("choice => choice.selectedOptions[0].text") == "images = 2"
    page.get_by_role("button", name="all rows").click()
    find(page, "WHICH-07")
    page.get_by_label("Show").select_option("all")
    assert shown(page) == ["which-07"]
    find(page, "shapes.jsonl:3")
    assert shown(page) == ["which-02"]
    find(page, "no such row")
    assert page.locator(".none").inner_text().startswith("No row fits")


def test_images_stand_at_their_markers(page, colours_of):
    find(page, "swapped")
    order = page.locator(".said").evaluate(
        "said => [...said.childNodes].map(node => node.dataset.image ?? node.textContent.trim())"
    )
    assert order == ["After", "1", "before", "0", ". Where ?"]
    left = [page.locator(f'.marker[data-image="{k}"]').bounding_box()["x"] for k in (1, 0)]
    assert left == sorted(left)
    assert colours_of(page.locator(".marker img")) == ["0,0,255", "255,0,0"]


def test_the_expected_box_lies_on_its_image(page):
    find(page, "swapped")
    figure = page.locator('.marker[data-image="1"]')
    image = figure.locator("img").bounding_box()
    box = figure.locator("rect.expected").evaluate(
        "one => { const box = one.getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom]; }"
    )
    scale = image["width"] / 56
    corners = [image["x"] + 8 * scale, image["y"] + 8 * scale, image["x"] + 48 * scale, image["y"] + 48 * scale]
    assert box == pytest.approx(corners, abs=4)
    assert page.locator('.marker[data-image="0"] rect').count() == 0


def test_both_models_stand_beside_each_other(page):
    find(page, "which-00")
    names = page.locator(".run-name")
    assert names.all_inner_texts() == ["model: trained", "base: <i>base</i>"]
    model, base = (names.nth(k).bounding_box() for k in (0, 1))
    assert model["y"] == base["y"]
    assert base["x"] > model["x"] + 200
    assert page.locator(".model .verdict").inner_text() == "✓ right"
    assert page.locator(".base .verdict").inner_text() == "✗ wrong"


def test_hostile_text_stays_text(page):
    find(page, "which-00")
    text = page.locator(".base .text")
    assert '<script>document.title = "owned"</script><img src=x onerror=alert(1)>' in text.inner_text()
    assert page.locator(".group script, .group img[src=x], .facts i").count() == 0
    assert page.title() == "trained · evaluation"


def test_paging_and_the_keyboard(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "rows"
    first = shown(page)
    page.locator("#next").focus()
    page.keyboard.press("Enter")
    assert page.locator("#page").inner_text() == "Page 2 of 3"
    assert not set(first) & set(shown(page))
    page.locator(".slice").nth(1).focus()
    page.keyboard.press("Space")
    assert shown(page) == ["swapped"]
    assert page.evaluate("document.activeElement.id") == "rows"


def test_a_narrow_window_does_not_scroll_sideways(open_page, evaluated):
    page = open_page(evaluated.page, viewport={"width": 390, "height": 800}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
