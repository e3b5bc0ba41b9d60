import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triptych_trainer.rewards import ImageInfo, cited_images, load_reward

IMAGES = tuple(ImageInfo(index=k, name=name, width=56, height=28) for k, name in enumerate(["before", "after", None]))


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("2", {1}),
        ("#2", {1}),
        ("after", {1}),
        ("After.", {1}),
        ("second", {1}),
        ("3rd", {2}),
        ("1, 3", {0, 2}),
        ("[1, 3]", {0, 2}),
        ("before and after", {0, 1}),
        ("In image 2 it is red", {1}),
        ("Image-2", {1}),
        ("images 1, 2 and 3", {0, 1, 2}),
        ("<image:2> shows it", {1}),
        ("<image:after> shows it", {1}),
        ("the second picture", {1}),
        ("the last image", {2}),
        ('see "after"', {1}),
        ("the after image", {1}),
        ("it was red before", set()),
        ("a 2 by 2 grid", set()),
        ("image 7", {-1}),
        ("7", {-1}),
        ("image 0", {-1}),
        ("the ninth image", {-1}),
        ("image 2.5", {1}),
        ("", set()),
    ],
)
def test_which_images_a_text_cites(text, indices):
    assert cited_images(text, IMAGES) == indices


def test_letters_that_only_look_like_those_of_an_ordinal_are_no_error():
    assert cited_images("the fir\u017ft image or the s\u0131xth image of two", IMAGES) == frozenset()
    assert cited_images("the FIRST image of two", IMAGES) == {0}


def test_names_with_pattern_characters_are_literal():
    images = (ImageInfo(index=0, name="a.b(c", width=1, height=1),)
    assert cited_images('see "a.b(c" there', images) == {0}
    assert cited_images('see "axb(c" there', images) == set()


def score(spec, text, answer, **columns):
    return load_reward(spec)([text], answer=[answer], images=[IMAGES], example_id=["s1"], **columns)[0]


def test_the_same_set_is_right():
    assert score("image_reference", "<answer>image 2</answer>", "after") == 1.0
    assert score("image_reference", "<answer>image 2 and image 1</answer>", "2") == 0.0
    assert score("image_reference", "<answer>none</answer>", "2") == 0.0
    assert score("image_reference", "<answer>cut", "2") == 0.0


def test_partial_is_f1():
    assert score("image_reference(partial=True)", "image 2 and image 1", "2") == pytest.approx(2 / 3)
    assert score("image_reference(partial=True)", "images 1, 3", "1, 3") == 1.0
    assert score("image_reference(partial=True)", "image 9", "2") == 0.0


def test_another_column_may_hold_the_evidence():
    assert score('image_reference(column="evidence")', "red, see image 3", "red", evidence=["3"]) == 1.0
    assert score('image_reference(column="evidence")', "red, see image 3", "red", evidence=[[1, 3]]) == 0.0
    with pytest.raises(ValueError, match=r"sample s1: .*column 'evidence', which is empty .*other columns: other"):
        score('image_reference(column="evidence")', "x", "red", other=["3"])


def test_an_expected_value_that_names_no_image_is_the_datasets_mistake():
    with pytest.raises(ValueError, match=r"sample s1: column 'answer' is 'red', which names none among the 3 images"):
        score("image_reference", "image 2", "red")


@settings(deadline=None)
@given(st.text(alphabet="image 0123456789<>:,#andthefirslo\n", max_size=50))
def test_any_text_is_read(text):
    assert cited_images(text, IMAGES) <= {-1, 0, 1, 2}


@pytest.mark.parametrize("piece", ["image 2 and ", "the ", "1, ", "<image:", "images 1, 2, "])
def test_long_repetitions_take_linear_time(piece):
    assert cited_images(piece * 20_000, IMAGES) <= {-1, 0, 1, 2}
