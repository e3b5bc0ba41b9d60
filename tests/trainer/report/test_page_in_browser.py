"""The page in a real browser."""

import shutil
from itertools import pairwise

import pytest
from triptych_trainer.report import build_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(run_dir, other_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {
        "one": build_report(run_dir, folder / "one.html"),
        "two": build_report(run_dir, folder / "two.html", compare=other_dir),
    }


@pytest.fixture
def opened(open_page, pages):
    return lambda name="one", **options: open_page(pages[name], **options)


def shown(page):
    return page.locator(".group").evaluate_all("cards => cards.map(card => card.dataset.sample)")


def find(page, text):
    page.get_by_label("Sample id or file:line").fill(text)


def test_the_page_loads_with_curves_and_groups(opened):
    page = opened()
    assert page.title() == "gained · rollouts"
    assert page.locator(".chart").count() == 4
    assert page.locator(".group").count() == 8
    assert page.get_by_role("status").inner_text() == "24 groups of 44"
    for landmark in ("banner", "main", "contentinfo", "search"):
        assert page.get_by_role(landmark).count() == 1, landmark
    assert page.get_by_role("navigation", name="Pages of groups", exact=True).count() == 1


def test_a_run_without_turns_says_nothing_of_turns(opened):
    of_turns = opened().locator(".of-turns")
    assert of_turns.count() > 3
    assert not any(of_turns.nth(k).is_visible() for k in range(of_turns.count()))


def test_what_changed_most_comes_first(opened):
    page = opened()
    assert page.get_by_label("Order").input_value() == "change"
    assert shown(page) == [f"which-{k:02d}" for k in range(1, 17, 2)]
    assert page.locator(".group").first.locator(".badge.up").inner_text() == "+0.50 since first seen"


def test_paging_by_clicking(opened):
    page = opened()
    first = shown(page)
    assert page.locator("#page").inner_text() == "Page 1 of 3"
    assert page.locator("#previous").is_disabled()
    page.locator("#next").click()
    assert page.locator("#page").inner_text() == "Page 2 of 3"
    assert not set(first) & set(shown(page))
    page.locator("#next-below").click()
    assert page.locator("#next").is_disabled()
    assert len(shown(page)) == 8
    page.locator("#previous-below").click()
    page.locator("#previous").click()
    assert shown(page) == first


def test_search_and_filters(opened):
    page = opened()
    find(page, "WHICH-1")
    assert page.get_by_role("status").inner_text() == "10 groups of 44"
    find(page, "screens.jsonl:1")
    assert shown(page) == ["screen-1"]
    find(page, "no such thing")
    assert page.locator(".none").inner_text().startswith("No group fits")
    find(page, "")
    page.get_by_label("Images in the prompt", exact=True).select_option("0")
    assert shown(page) == ["text-only"]
    page.get_by_label("Images in the prompt", exact=True).select_option("")
    page.get_by_label("Show").select_option("boxes")
    assert shown(page) == ["screen-1"]
    page.get_by_label("Show").select_option("flat")
    assert page.get_by_role("status").inner_text() == "0 groups of 44"
    page.get_by_label("Show").select_option("all")
    page.get_by_label("Phase").select_option("eval")
    assert shown(page) == ["which-00"]


def test_all_visits_of_a_sample_can_be_seen(opened):
    page = opened()
    find(page, "which-01")
    assert page.locator(".verdict.wrong").count() == 0
    page.get_by_label("Visits of sample which-01").select_option("0")
    assert page.locator(".verdict.wrong").count() == 1
    page.get_by_label("Visits", exact=True).select_option("all")
    assert shown(page) == ["which-01", "which-01"]


def test_images_stand_where_the_markers_were(opened, colours_of):
    page = opened()
    find(page, "which-02")
    order = page.locator(".said").evaluate(
        "said => [...said.childNodes].map(node => node.dataset.image ?? node.textContent.trim())"
    )
    assert order == ["See", "0", ",", "1", "and", "2", ". Which is red ?"]
    sides = page.locator(".said").evaluate(
        "said => [...said.childNodes].map(node => node.getBoundingClientRect()).map(box => [box.left, box.right])"
    )
    for (_, right), (left, _) in pairwise(sides):
        assert right <= left + 1
    assert colours_of(page.locator(".marker img")) == ["0,0,255", "255,0,0", "0,128,0"]
    captions = page.locator(".marker figcaption").all_inner_texts()
    assert captions == [f"image {k} · 56 × 56 px{' expected' if k == 2 else ''}" for k in (1, 2, 3)]


def test_hostile_text_stays_text(opened):
    page = opened()
    find(page, "screen-1")
    text = page.locator(".completion").nth(3).locator(".text")
    assert text.inner_text().startswith('<script>document.title = "owned"</script><img src=x onerror=alert(1)>')
    assert text.locator("script, img").count() == 0
    assert page.title() == "gained · rollouts"


def test_boxes_lie_on_the_image_that_they_refer_to(opened):
    page = opened()
    find(page, "screen-1")
    figures = page.locator(".marker")
    owners = "all => all.map(one => one.dataset.completion)"
    assert figures.nth(0).locator("rect").evaluate_all(owners) == ["1"]
    assert figures.nth(1).locator("rect[data-completion]").evaluate_all(owners) == ["0"]
    image = figures.nth(1).locator("img").bounding_box()
    box = (
        figures.nth(1)
        .locator("rect.expected")
        .evaluate(
            "one => { const box = one.getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom]; }"
        )
    )
    scale = image["width"] / 160
    expected = [image["x"] + 10 * scale, image["y"] + 20 * scale, image["x"] + 60 * scale, image["y"] + 50 * scale]
    assert box == pytest.approx(expected, abs=4)
    assert page.locator(".completion").nth(2).locator(".notes").inner_text().splitlines() == [
        "cites an image that is not there",
        "1 box is in an image that is not there",
    ]


def test_choosing_a_completion_marks_its_image_and_its_box(opened):
    page = opened()
    find(page, "screen-1")
    pick = page.locator(".pick").nth(1)
    pick.focus()
    page.keyboard.press("Enter")
    assert pick.get_attribute("aria-pressed") == "true"
    cited = page.locator(".marker").evaluate_all("all => all.map(one => one.classList.contains('cited'))")
    assert cited == [True, False]
    assert page.locator("rect.strong").count() == 1
    assert page.locator("rect.dim").count() == 1
    pick.click()
    assert page.locator(".cited, rect.dim, rect.strong").count() == 0


def test_the_reward_can_be_added_up_from_the_scores_and_their_weights(opened):
    page = opened()
    find(page, "screen-1")
    completion = page.locator(".completion").first
    assert "reward 1.50" in completion.locator(".pick").inner_text()
    assert completion.locator(".scores span").all_inner_texts()[:2] == ["accuracy 1.00", "format 1.00 × 0.50"]


def test_an_image_can_be_enlarged(opened):
    page = opened()
    find(page, "screen-1")
    button = page.get_by_role("button", name="Enlarge image 2, after")
    before = button.bounding_box()["height"]
    button.click()
    assert button.bounding_box()["height"] > 1.5 * before
    assert button.get_attribute("aria-pressed") == "true"


def test_pointing_at_a_curve_reads_its_values(opened):
    page = opened()
    chart = page.locator("#panel-total .chart")
    area = chart.bounding_box()
    page.mouse.move(area["x"] + area["width"] - 15, area["y"] + 60)
    assert page.locator("#panel-total .readout").inner_text().startswith("step 3: train ")


def test_two_runs_side_by_side(opened):
    page = opened("two")
    assert page.title() == "gained against stayed · rollouts"
    assert page.get_by_label("Order").input_value() == "other"
    card = page.locator(".group").first
    assert card.locator(".run-name").all_inner_texts() == ["gained, step 2", "stayed, step 2"]
    assert card.locator(".badge.down").inner_text() == "−0.50 in stayed"
    assert card.locator(".said-by").count() == 2


def test_a_narrow_window_does_not_scroll_sideways(browser, pages):
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark")
    page = context.new_page()
    page.goto(pages["two"].as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_the_keyboard_reaches_the_groups_first(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "groups"


def test_under_each_image_stands_which_wrong_answers_have_to_do_with_it(opened):
    page = opened()
    page.get_by_label("Phase").select_option("eval")
    lines = page.locator(".faults").all_inner_texts()
    assert [line.split() for line in lines] == [[], ["wrongly", "chosen", "by", "2"], []]
    assert page.locator(".completion").nth(1).locator(".notes .bad").inner_text() == (
        "answers with image 2; expected image 1"
    )
    page.get_by_label("Phase").select_option("")
    find(page, "screen-1")
    lines = page.locator(".faults").all_inner_texts()
    assert [line.split() for line in lines] == [["wrongly", "chosen", "by", "2"], ["answered", "wrongly", "by", "4"]]
    notes = page.locator(".completion").nth(1).locator(".notes .bad")
    assert notes.inner_text() == "answers with image 1, before; expected image 2, after"


def test_pointing_at_a_word_or_focusing_it_marks_its_image(opened):
    page = opened()
    find(page, "screen-1")
    pointed = "all => all.map(one => one.classList.contains('pointed'))"
    word = page.locator(".completion").nth(1).locator(".mention")
    assert word.inner_text() == "image 1"
    word.hover()
    assert page.locator(".marker").evaluate_all(pointed) == [True, False]
    page.locator("h1").hover()
    assert page.locator(".marker").evaluate_all(pointed) == [False, False]
    word.focus()
    assert page.locator(".marker").evaluate_all(pointed) == [True, False]
    page.keyboard.press("Tab")
    assert page.locator(".marker").evaluate_all(pointed) == [False, False]
    nowhere = page.locator(".completion").nth(2).locator(".mention")
    assert (nowhere.inner_text(), nowhere.get_attribute("title")) == ("image 7", "there is no such image")


def test_a_question_about_one_image_puts_a_wrong_answer_down_to_it(opened):
    page = opened()
    find(page, "label-1")
    assert page.locator(".marker").nth(1).locator(".target").inner_text() == "asked about"
    assert [line.split() for line in page.locator(".faults").all_inner_texts()] == [
        [],
        ["answered", "wrongly", "by", "2"],
    ]
    note = page.locator(".completion").nth(1).locator(".notes .bad")
    assert note.inner_text() == "says “green” about image 2; expected “red”"
    page.locator(".said .mention").hover()
    assert page.locator(".marker").nth(1).evaluate("one => one.classList.contains('pointed')")


def test_under_each_image_stands_what_was_said_of_it(opened):
    page = opened()
    find(page, "screen-1")
    first, second = (page.locator(".marker").nth(k) for k in (0, 1))
    assert first.get_by_role("list", name="Said of image 1, before").inner_text().split() == [
        *("“In", "image", "1:", "[5,", "5,", "40,", "30]”"),
        "2",
    ]
    assert second.locator(".quotes").is_hidden()


def test_what_a_run_has_nothing_for_is_not_offered(opened, open_page, run_dir, tmp_path):
    page = opened()
    assert page.locator('#order option[value="change"]').get_attribute("disabled") is None
    assert page.locator("#visits-field").is_visible()
    assert page.locator('#show option[value="boxes"]').count() == 1
    (tmp_path / "rollouts").mkdir()
    for part in (run_dir / "rollouts").glob("step-00000001-train-*.parquet"):
        shutil.copy(part, tmp_path / "rollouts")
    once = open_page(build_report(tmp_path))
    order = once.locator('#order option[value="change"]')
    assert order.get_attribute("disabled") is not None
    assert order.inner_text() == "changed most (all seen once)"
    assert once.locator("#visits-field").is_hidden()
    assert once.locator('#show option[value="boxes"]').count() == 0
    assert once.locator("#about-boxes").is_hidden()
