"""Images at addresses: refused unless allowed, cached within a bound, errors told apart."""

from __future__ import annotations

import os
import time

import fsspec
import pytest
from triptych_data import DataError, ImageError, ImagePolicy, ImageSource, load_image, read_examples


@pytest.fixture
def store(draw, encode):
    """An object store in memory with three pictures."""
    files = fsspec.filesystem("memory")
    for index in range(3):
        with files.open(f"/bucket/{index}.png", "wb") as stream:
            stream.write(encode(draw(40, 30, seed=index)))
    yield files
    files.rm("/bucket", recursive=True)


def test_addresses_are_refused_by_default(store, write_jsonl):
    path = write_jsonl([{"prompt": "<image>", "images": ["memory://bucket/0.png"]}])
    with pytest.raises(DataError, match="addresses are not read; download the image, or allow it with allow_remote"):
        read_examples(path)
    examples = read_examples(path, policy=ImagePolicy(allow_remote=True))
    assert load_image(examples[0].images[0], policy=ImagePolicy(allow_remote=True)).size == (40, 30)


def test_what_was_read_is_served_from_the_cache_within_its_bound(store, tmp_path):
    size = store.size("/bucket/0.png")
    policy = ImagePolicy(allow_remote=True, cache_dir=tmp_path / "cache", cache_bytes=2 * size + size // 2)
    sources = [ImageSource(ref=f"memory://bucket/{index}.png") for index in range(3)]
    first = [load_image(source, policy=policy).tobytes() for source in sources]
    held = list((tmp_path / "cache").glob("??/*"))
    assert len(held) == 2
    assert sum(path.stat().st_size for path in held) <= policy.cache_bytes
    store.rm("/bucket/2.png")
    assert load_image(sources[2], policy=policy).tobytes() == first[2]  # from the cache
    store.rm("/bucket/0.png")
    with pytest.raises(ImageError, match="no such object") as caught:
        load_image(sources[0], policy=policy)
    assert caught.value.kind == "missing"
    with store.open("/bucket/0.png", "wb") as stream:  # for the fixture's clean-up
        stream.write(b"x")


def test_a_cache_that_cannot_be_written_costs_nothing_but_the_copy(store, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    policy = ImagePolicy(allow_remote=True, cache_dir=tmp_path / "file")
    assert load_image(ImageSource(ref="memory://bucket/1.png"), policy=policy).size == (40, 30)


def test_an_unknown_kind_of_address_and_a_large_object_say_so(store):
    with pytest.raises(
        ImageError, match=r"expected an address of http\(s\) or an object store, got 'nosuch'"
    ) as caught:
        load_image(ImageSource(ref="nosuch://bucket/1.png"), policy=ImagePolicy(allow_remote=True))
    assert caught.value.kind == "remote"
    with pytest.raises(ImageError, match="cannot be opened .*install the fsspec file system"):
        load_image(ImageSource(ref="oci://bucket/1.png"), policy=ImagePolicy(allow_remote=True))
    with pytest.raises(ImageError, match="expected at most 10 bytes"):
        load_image(ImageSource(ref="memory://bucket/1.png"), policy=ImagePolicy(allow_remote=True, max_file_bytes=10))


def test_a_store_that_sends_slowly_is_waited_for_as_long_as_any_other(store, monkeypatch):
    class Slow:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, num_bytes):
            time.sleep(5)

    monkeypatch.setattr(fsspec, "open", lambda address, mode: Slow())
    started = time.monotonic()
    with pytest.raises(
        ImageError, match=r"expected the whole image within 0.1 s, got less; check the network"
    ) as caught:
        load_image(ImageSource(ref="memory://bucket/1.png"), policy=ImagePolicy(allow_remote=True, timeout_seconds=0.1))
    assert caught.value.kind == "io"
    assert time.monotonic() - started < 4


@pytest.mark.parametrize(
    ("status", "kind"), [(404, "missing"), (410, "missing"), (500, "io"), (403, "io"), (None, "io")]
)
def test_a_server_that_fails_is_no_missing_image(monkeypatch, status, kind):
    """Missing images may be left out of a run, and are not asked for again."""

    def fail(address, mode):
        cause = ConnectionError("no way there")
        cause.status = status
        raise FileNotFoundError(address) from cause  # so does fsspec, whatever went wrong over HTTP

    monkeypatch.setattr(fsspec, "open", fail)
    expected = "no such object" if kind == "missing" else r"cannot be read \(ConnectionError: no way there\); check the"
    with pytest.raises(ImageError, match=expected) as caught:
        load_image(ImageSource(ref="https://example.org/1.png"), policy=ImagePolicy(allow_remote=True))
    assert caught.value.kind == kind


def test_a_scheme_in_capitals_is_read(store):
    assert load_image(ImageSource(ref="MEMORY://bucket/0.png"), policy=ImagePolicy(allow_remote=True)).size == (40, 30)


@pytest.fixture
def folder(tmp_path, draw):
    """An image root with a picture, and one beside it that it must not reach."""
    root = tmp_path / "images"
    root.mkdir()
    draw(40, 30).save(root / "in side.png")
    draw(50, 30).save(tmp_path / "outside.png")
    os.mkfifo(root / "pipe.png")
    return root


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("file://{root}/in%20side.png", None),
        ("file:{root}/in%20side.png", None),
        ("file://localhost{root}/in%20side.png", None),
        ("file:in%20side.png", None),
        ("FILE://{root}/in%20side.png", None),
        ("local://{root}/in side.png", None),
        ("local://in side.png", None),
        ("file://{root}/../outside.png", "escape"),
        ("file://{root}/%2e%2e/outside.png", "escape"),
        ("local://{root}/../outside.png", "escape"),
        ("local://../outside.png", "escape"),
        ("file:///etc/hostname", "escape"),
        ("file://elsewhere/in%20side.png", "remote"),
        ("file://{root}/pipe.png", "not_a_file"),
        ("local://{root}/pipe.png", "not_a_file"),
        ("simplecache::file://{root}/in%20side.png", "remote"),
        ("filecache::local://{root}/../outside.png", "remote"),
        ("zip://outside.png::file://{root}/a.zip", "remote"),
        ("dir::file://{root}", "remote"),
        ("git://{root}:main@in side.png", "remote"),
        ("reference://x", "remote"),
    ],
)
def test_addresses_of_this_machine_stay_below_the_image_root(folder, address, kind):
    source = ImageSource(ref=address.format(root=folder), root=folder)
    policy = ImagePolicy(allow_remote=True)
    if kind is None:  # they are paths: nothing is asked of another machine
        assert load_image(source, policy=policy).size == load_image(source).size == (40, 30)
        return
    with pytest.raises(ImageError) as caught:
        load_image(source, policy=policy)
    assert caught.value.kind == kind
    with pytest.raises(ImageError):
        load_image(source)


def test_an_allowed_folder_holds_for_addresses_too(folder):
    source = ImageSource(ref=f"file://{folder.parent}/outside.png", root=folder)
    policy = ImagePolicy(allow_remote=True, allow_outside=(folder.parent,))
    assert load_image(source, policy=policy).size == (50, 30)


def test_a_store_behind_a_cache_is_read(store):
    source = ImageSource(ref="simplecache::memory://bucket/0.png")
    assert load_image(source, policy=ImagePolicy(allow_remote=True)).size == (40, 30)
