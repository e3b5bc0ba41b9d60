"""Paths stay beneath their root, in the kernel's way and in the portable one, while links are swapped."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import triptych_data.paths as paths
from damaged_files import PNG, outside_file
from triptych_data import ImageError, ImagePolicy, ImageSource, probe_image
from triptych_data.paths import has_openat2, kept_folders, open_beneath


@pytest.fixture(params=["openat2", "portable"])
def way(request, monkeypatch) -> str:
    if request.param == "portable":
        monkeypatch.setattr(paths, "has_openat2", lambda: False)
    elif not has_openat2():
        pytest.skip("this kernel has no openat2")
    return request.param


@pytest.fixture
def tree(tmp_path) -> Path:
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "sub" / "good").write_text("good")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "good").write_text("secret")
    return tmp_path


def read(root: Path, path: str, **options) -> str:
    with os.fdopen(open_beneath(root, path, **options)) as stream:
        return stream.read()


@pytest.mark.parametrize("path", ["sub/good", "./sub/../sub/good", "sub//good"])
def test_what_lies_beneath_is_read(tree, way, path):
    assert read(tree / "root", path) == "good"
    assert read(tree / "root", str(tree / "root" / path)) == "good"


def test_links_inside_are_followed_and_links_outside_are_not(tree, way):
    (tree / "root" / "inner").symlink_to("sub/good")
    (tree / "root" / "outer").symlink_to("../secret/good")
    (tree / "root" / "absolute").symlink_to(tree / "secret" / "good")
    (tree / "root" / "folder").symlink_to("../secret")
    (tree / "root" / "whole").symlink_to(tree / "root" / "sub")
    assert [read(tree / "root", path) for path in ("inner", "whole/good")] == ["good", "good"]
    for path in ("outer", "absolute", "folder/good", "../secret/good", "sub/../../secret/good", "/etc/passwd"):
        with pytest.raises(ImageError, match="leads out of the image root") as caught:
            read(tree / "root", path)
        assert caught.value.kind == "escape"
    for path in ("outer", "absolute", "folder/good", "../secret/good", str(tree / "secret" / "good")):
        assert read(tree / "root", path, allow_outside=[tree / "secret"]) == "secret"


def test_a_folder_with_a_similar_name_is_not_the_root(tree, way):
    (tree / "root-2").mkdir()
    (tree / "root-2" / "x").write_text("x")
    with pytest.raises(ImageError, match="leads out"):
        read(tree / "root", "../root-2/x")


def test_the_root_itself_may_be_a_link(tree, way):
    (tree / "alias").symlink_to("root")
    assert read(tree / "alias", "sub/good") == "good"
    assert read(tree / "alias", str(tree / "root" / "sub" / "good")) == "good"


def test_a_hub_cache_reaches_its_blobs_and_nothing_else(tree, way):
    repository = tree / "hub" / "datasets--a--b"
    snapshot = repository / "snapshots" / "rev" / "images"
    (repository / "blobs").mkdir(parents=True)
    (repository / "blobs" / "abc").write_text("blob")
    snapshot.mkdir(parents=True)
    (snapshot / "x").symlink_to("../../../blobs/abc")
    (snapshot / "bad").symlink_to(tree / "secret" / "good")
    assert read(snapshot, "x") == "blob"
    with pytest.raises(ImageError, match="leads out"):
        read(snapshot, "bad")
    with pytest.raises(ImageError, match="leads out"):
        read(snapshot, "../../../../../secret/good")


def test_too_large_and_unreadable_files_say_so(tree, way):
    with pytest.raises(ImageError, match="expected at most 3 bytes, got 4"):
        read(tree / "root", "sub/good", max_bytes=3)
    with pytest.raises(ImageError, match="this is a folder"):
        read(tree / "root", "sub")
    with pytest.raises(ImageError, match="no such file below"):
        read(tree / "root", "sub/good/deeper")


@pytest.mark.slow_except("openat2-*")
@pytest.mark.parametrize("target", ["file", "folder"])
def test_a_link_swapped_while_it_is_read_never_leads_out(tree, way, target):
    """Another process flips a link between inside and outside; whatever is opened lies inside."""
    link = tree / "root" / "link"
    inside, outside = ("sub/good", "../secret/good") if target == "file" else ("sub", "../secret")
    path = "link" if target == "file" else "link/good"
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            for where in (inside, outside):
                spare = tree / "spare"
                spare.symlink_to(where)
                os.replace(spare, link)

    link.symlink_to(inside)
    flipper = threading.Thread(target=flip)
    flipper.start()
    try:
        seen = {"good": 0, "refused": 0}
        for _ in range(3000):
            try:
                assert read(tree / "root", path) == "good"
                seen["good"] += 1
            except ImageError as error:
                if error.kind not in ("escape", "missing"):
                    raise
                seen["refused"] += 1
    finally:
        stop.set()
        flipper.join()
    assert seen["good"] > 0
    assert seen["refused"] > 0


def test_no_descriptor_is_left_by_success_or_failure(tree, way):
    before = len(os.listdir("/proc/self/fd"))
    for path in ("sub/good", "gone", "sub", "../secret/good") * 5:
        try:
            read(tree / "root", path)
        except ImageError:
            continue
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_allowed_folder_opens_the_way_out(tmp_path: Path) -> None:
    for how in ("parent", "absolute", "file link", "folder link"):
        folder = tmp_path / how.replace(" ", "-")
        folder.mkdir()
        ref = outside_file(how)(folder)
        policy = ImagePolicy(allow_outside=(folder / "outside",))
        assert probe_image(ImageSource(ref=ref, root=folder / "inside"), policy=policy) == (64, 96), how


def test_an_absolute_path_inside_the_root_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(PNG)
    assert probe_image(ImageSource(ref=str(tmp_path / "x.png"), root=tmp_path)) == (64, 96)


def test_kept_folders_are_opened_once_and_closed_and_nothing_leads_out_of_them(tree, way, monkeypatch):
    before, opened = set(os.listdir("/dev/fd")), []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **named: opened.append(path) or real(path, *rest, **named))
    (tree / "root" / "out").symlink_to(tree / "secret")
    (tree / "root" / "sub" / "out").symlink_to(next((tree / "secret").iterdir()))
    (tree / "root" / "sub" / "within").symlink_to("good")
    with kept_folders():
        for _ in range(3):
            os.close(open_beneath(tree / "root", "sub/good"))
        with pytest.raises(ImageError, match="leads out of"):
            open_beneath(tree / "root", "out/good")
        os.close(open_beneath(tree / "root", "sub/within"))
        for path, problem in (("sub/out", "leads out of"), ("sub/..", "this is a folder"), ("sub/no", "no such file")):
            with pytest.raises(ImageError, match=problem):
                open_beneath(tree / "root", path)
    assert opened.count(tree / "root") == (1 if way == "openat2" else 0)
    os.close(open_beneath(tree / "root", "sub/good"))
    assert opened.count(tree / "root") == (2 if way == "openat2" else 0), "afterwards each file opens its folder again"
    assert set(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize("given", ["a", Path("a"), ["a"], (Path("a"),)], ids=["text", "path", "list", "tuple"])
def test_a_policy_takes_folders_as_a_script_writes_them(given):
    policy = ImagePolicy(allow_outside=given, cache_dir="b")
    assert policy == ImagePolicy(allow_outside=(Path("a"),), cache_dir=Path("b"))
    assert hash(policy) == hash(ImagePolicy(allow_outside=(Path("a"),), cache_dir=Path("b")))
