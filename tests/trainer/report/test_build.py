import base64
import hashlib
import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from triptych_data.pages import safe_json
from triptych_trainer.commands.report import main
from triptych_trainer.report import build_report
from triptych_trainer.report.build import run_names
from triptych_trainer.report.payload import boxes_json, cites, parts
from triptych_trainer.report.thumbnails import Thumbnails
from triptych_trainer.rewards import ImageInfo
from triptych_trainer.rollouts.image_record import ImageRecord
from triptych_trainer.rollouts.record import GroupRecord
from triptych_trainer.rollouts.write import RolloutWriter


def payload(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


@pytest.fixture(scope="module")
def page(run_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert build_report(run_dir, out) == out
    return out.read_text(encoding="utf-8")


def test_the_page_asks_for_nothing_from_elsewhere(page):
    outside = page.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in outside
    assert "https://" not in outside
    assert "%%" not in page
    assert set(re.findall(r'(?:src|href)="([^"#]*)', page)) <= {"data:,", ""}


def test_the_policy_allows_exactly_the_pages_own_script_and_style(page):
    for kind in ("script", "style"):
        (allowed,) = re.findall(rf"{kind}-src '(sha256-[^']+)'", page)
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        assert allowed == "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_hostile_text_cannot_leave_the_data_block(page):
    assert page.count("</script>") == 2
    assert 'document.title = "owned"</script>' not in page
    (screen,) = [group for group in payload(page)["groups"] if group["id"] == "screen-1"]
    assert "".join(text for _, text in screen["completions"][3]["parts"]).startswith("<script>document.title")


def test_every_group_is_there_with_its_scores(page):
    data = payload(page)
    assert len(data["groups"]) == 44
    assert data["rewards"] == ["accuracy", "format"]
    (text,) = [group for group in data["groups"] if group["id"] == "text-only"]
    assert text["flat"] is False  # the rewards that applied differ
    (changed,) = [g for g in data["groups"] if (g["id"], g["step"]) == ("which-01", 2)]
    assert changed["change"] == pytest.approx(0.5)
    assert changed["history"] == [[1, pytest.approx(0.75)], [2, pytest.approx(1.25)]]


def test_right_and_wrong_go_by_the_reward_that_is_named(page, run_dir, tmp_path, capsys):
    assert payload(page)["verdict"] == "accuracy"
    assert "right and wrong go by <i>accuracy</i>" in page
    out = tmp_path / "format.html"
    assert main([str(run_dir), "--out", str(out), "--verdict", "format"]) == 0
    assert payload(out.read_text(encoding="utf-8"))["verdict"] == "format"
    assert main([str(run_dir), "--out", str(out), "--verdict", "formt"]) == 2
    assert "--verdict formt: expected the name of a reward, one of accuracy, format" in capsys.readouterr().err


def test_a_run_says_itself_what_is_right_and_a_page_says_where_nothing_does(tmp_path):
    prompt = [("user", ["which ?"])]
    mine = {"rewards": {"mine": [1.0, 0.0]}, "advantages": [0.5, -0.5], "num_tokens": [1, 1], "completions": ["a", "b"]}
    RolloutWriter(tmp_path).write([GroupRecord(step=1, key="s", sample_id="s", prompt=prompt, **mine)])
    page = build_report(tmp_path).read_text(encoding="utf-8")
    assert payload(page)["verdict"] is None
    assert "no reward of this run is called accuracy, so nothing is marked right or wrong" in page
    (tmp_path / "config.yaml").write_text("verdict: mine\n")
    assert payload(build_report(tmp_path).read_text(encoding="utf-8"))["verdict"] == "mine"


def test_a_run_in_which_nothing_was_scored_has_a_page(tmp_path):
    prompt = [("user", ["which ?"])]
    none = {
        "rewards": {"mine": [None, None]},
        "advantages": [0.0, 0.0],
        "num_tokens": [1, 1],
        "completions": ["a", "b"],
    }
    RolloutWriter(tmp_path).write([GroupRecord(step=1, key="s", sample_id="s", prompt=prompt, **none)])
    data = payload(build_report(tmp_path).read_text(encoding="utf-8"))
    assert "total" not in data["curves"]
    assert "rewards" not in data["curves"]
    assert "length" in data["curves"]


def test_images_are_embedded_once(page):
    data = payload(page)
    assert len(data["images"]) == 5
    (screen,) = [group for group in data["groups"] if group["id"] == "screen-1"]
    colours = []
    for image in screen["images"]:
        content = base64.b64decode(data["images"][image["thumb"]].split(",")[1])
        with Image.open(io.BytesIO(content)) as picture:
            colours.append(picture.convert("RGB").getpixel((5, 5)))
    assert colours[0] == pytest.approx((0x44, 0x77, 0xAA), abs=6)
    assert colours[1] == pytest.approx((0xCC, 0x66, 0x77), abs=6)


def test_boxes_and_citations_are_read(page):
    (screen,) = [group for group in payload(page)["groups"] if group["id"] == "screen-1"]
    assert screen["answerBoxes"] == [{"image": 1, "corners": [10, 20, 60, 50], "label": None}]
    assert [[box["image"] for box in c["boxes"]] for c in screen["completions"]] == [[1], [0], [-1], []]
    assert [c["cites"] for c in screen["completions"]] == [[], [0], [-1], []]


def test_a_second_run_is_matched_by_sample(run_dir, other_dir, tmp_path):
    data = payload(build_report(run_dir, tmp_path / "r.html", compare=other_dir).read_text(encoding="utf-8"))
    assert (data["run"], data["other"]) == ("gained", "stayed")
    found = {(group["id"], group["step"]): group for group in data["groups"] if group["mode"] == "train"}
    assert found["which-01", 2]["mean"] - found["which-01", 2]["other"]["mean"] == pytest.approx(0.5)
    assert found["which-00", 2]["mean"] == found["which-00", 2]["other"]["mean"]
    assert found["which-01", 1]["other"]["step"] == 2
    labels = [curve["label"] for curve in data["curves"]["total"]]
    assert labels == ["(gained)", "eval (gained)", "(stayed)", "eval (stayed)"]


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    assert run_names(tmp_path / "a" / "out", tmp_path / "b" / "out") == ("a/out", "b/out")
    assert run_names(tmp_path / "a", None) == ("a", None)


def test_limits_are_kept_and_said(run_dir, tmp_path):
    page = build_report(run_dir, tmp_path / "r.html", max_groups=5, max_image_bytes=1).read_text(encoding="utf-8")
    data = payload(page)
    assert len(data["groups"]) == 5
    assert len(data["images"]) == 1
    assert "44, 5 shown below" in page
    assert "images not embedded" in page


def test_an_image_that_is_gone_becomes_a_note(tmp_path):
    image = ImageRecord(ref=str(tmp_path / "lost.png"), width=8, height=8)
    RolloutWriter(tmp_path).write(
        [
            GroupRecord(
                step=1,
                key="s",
                sample_id="s",
                prompt=[("user", ["see ", 0])],
                images=[image],
                completions=["x"],
                num_tokens=[1],
                rewards={"a": [1.0]},
                advantages=[0.0],
            )
        ]
    )
    (group,) = payload(build_report(tmp_path).read_text(encoding="utf-8"))["groups"]
    assert group["images"][0]["thumb"].startswith("cannot be read: ")


def test_thumbnails_are_bounded_and_small_ones_exact(tmp_path):
    thumbnails = Thumbnails(max_bytes=1 << 20)
    for source, kind, size in (((2000, 1000), "jpeg", (360, 180)), ((56, 28), "png", (56, 28))):
        Image.new("RGB", source, "red").save(tmp_path / f"{kind}.png")
        image = ImageRecord(ref=str(tmp_path / f"{kind}.png"), width=56, height=28)
        head, content = thumbnails.uris[thumbnails.add(image, run_dir=tmp_path)].split(",")
        assert head == f"data:image/{kind};base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as shown:
            assert shown.size == size
    assert Thumbnails(max_bytes=0).add(ImageRecord(ref="x", width=1, height=1), run_dir=None).startswith("not embedded")


@settings(deadline=None)
@given(st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "a", "\n"]), max_size=12))
def test_the_parts_of_a_completion_join_to_its_text(pieces):
    text = "".join(pieces)
    assert "".join(part for _, part in parts(text)) == text


def test_parts_name_thought_and_answer_and_are_cut():
    assert parts("<think>a</think>b<answer>c</answer>") == [
        ["tag", "<think>"],
        ["thought", "a"],
        ["tag", "</think>"],
        ["text", "b"],
        ["tag", "<answer>"],
        ["answer", "c"],
        ["tag", "</answer>"],
    ]
    assert parts("x" * 20_010)[-1] == ["cut", "10 more characters"]
    assert parts("") == []


def test_boxes_are_moved_into_the_pixels_that_the_model_saw():
    image = ImageInfo(index=0, width=100, height=50, source_width=200, source_height=100)
    assert boxes_json("[20, 20, 40, 40]", [image], frame="source")[0]["corners"] == [10, 10, 20, 20]
    bare = ImageInfo(index=0, width=100, height=50)
    assert boxes_json("[20, 20, 40, 40]", [bare], frame="source")[0]["corners"] == [20, 20, 40, 40]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("second", [1]),
        ("image 2", [1]),
        ("see images 1 and 9", [-1, 0]),
        ("2", []),
        ("2 pm", []),
        ("red", []),
        ('{"bbox_2d": [1, 2, 3, 4], "image": 2}', []),
        ("", []),
    ],
)
def test_what_counts_as_a_citation(answer, found):
    images = [ImageInfo(index=k, width=8, height=8) for k in range(2)]
    assert cites(answer, images) == found
    assert cites(answer, []) == []


def test_safe_json_cannot_end_a_script():
    text = safe_json({"x": "</script><!--\u2028"})
    assert "<" not in text
    assert json.loads(text) == {"x": "</script><!--\u2028"}


def test_the_command_writes_the_page_or_says_in_one_line_why_not(run_dir, tmp_path, capsys):
    out = tmp_path / "deep" / "r.html"
    assert main([str(run_dir), "-o", str(out)]) == 0
    assert out.exists()
    assert capsys.readouterr().out.startswith(f"report: {out} (")
    assert main([str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("triptych report: error: ")
    assert error.count("\n") == 1
