"""The image loader: one decode per image, bounded memory, no thread or descriptor left."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from triptych_data import DataError, ImageLoader, load_image, probe_image, read_examples
from triptych_data.resize import resize


@pytest.fixture
def examples(write_jsonl, pictures):
    rows = [
        {"prompt": "<image> and <image>", "images": ["0.png", "1.jpg"]},
        {"prompt": "<image> again", "images": ["0.png"]},
        {"prompt": "none", "images": []},
        {"prompt": "<image><image><image>", "images": ["4.png", "3.jpg", "2.png"]},
    ]
    return read_examples(write_jsonl(rows))


def test_images_come_in_record_order_and_equal_load_image(examples):
    with ImageLoader(threads=2) as loader:
        for example in examples:
            images = loader.get(example)
            assert [image.mode for image in images] == ["RGB"] * len(example.images)
            for image, source in zip(images, example.images, strict=True):
                assert np.array_equal(np.asarray(image), np.asarray(load_image(source)))
                assert (image.height, image.width) == probe_image(source)


def test_each_image_is_decoded_once_for_eight_threads_and_many_askers(examples):
    with ImageLoader(threads=4) as loader:
        for example in list(examples) * 3:
            loader.prefetch(example)
        askers = [threading.Thread(target=lambda: [loader.get(example) for example in examples]) for _ in range(8)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        assert loader.decodes == 5


def test_a_bound_smaller_than_the_work_still_serves_everything(examples):
    for memory_bytes in (1, 8_000, 20_000):
        with ImageLoader(threads=3, memory_bytes=memory_bytes) as loader:
            for example in examples:
                loader.prefetch(example)
            for example in reversed(examples):  # the first asked for is the last in the queue
                assert len(loader.get(example)) == len(example.images)


def test_held_pixels_stay_within_the_bound(examples):
    largest = max(3 * np.prod(probe_image(image)) for example in examples for image in example.images)
    with ImageLoader(threads=2, memory_bytes=int(largest)) as loader:
        for _ in range(3):
            for example in examples:
                loader.get(example)
                assert loader.held_bytes <= largest


def test_a_damaged_image_is_an_error_with_its_row_where_it_is_taken(examples, tmp_path):
    data = (tmp_path / "3.jpg").read_bytes()
    (tmp_path / "3.jpg").write_bytes(data[:-300])
    with ImageLoader() as loader:
        for example in examples:
            loader.prefetch(example)
        assert len(loader.get(examples[0])) == 2
        with pytest.raises(DataError, match=r"train.jsonl:4: image 2 of 3, 3.jpg: cannot be decoded .*truncated"):
            loader.get(examples[3])
        with pytest.raises(DataError, match="truncated"):
            loader.get(examples[3])


def test_images_are_resized_on_the_threads_and_kept_small(examples):
    sizes = [(28, 56), (56, 28)]
    with ImageLoader(threads=1) as loader:
        loader.prefetch(examples[0], sizes=sizes)
        small = loader.get_pixels(examples[0], sizes=sizes)
        assert [pixels.shape for pixels in small] == [(28, 56, 3), (56, 28, 3)]
        assert loader.held_bytes == 3 * 2 * 28 * 56
        for pixels, source, size in zip(small, examples[0].images, sizes, strict=True):
            assert np.array_equal(pixels, resize(np.asarray(load_image(source)), size))
        assert loader.decodes == 2
        assert loader.get_pixels(examples[1])[0].shape[:2] == probe_image(examples[1].images[0]), "as decoded"


def test_sizes_are_those_of_the_headers_and_name_the_row(examples, tmp_path):
    with ImageLoader() as loader:
        for example in examples:
            assert loader.sizes(example) == tuple(probe_image(image) for image in example.images)
        (tmp_path / "4.png").unlink()
        assert len(loader.sizes(examples[3])) == 3, "a header is read once"
    with ImageLoader() as loader, pytest.raises(DataError, match=r"train.jsonl:4: image 1 of 3, 4.png: no such file"):
        loader.sizes(examples[3])


def test_pixels_that_contradict_their_header_are_refused(examples, monkeypatch):
    with ImageLoader() as loader:
        monkeypatch.setattr(loader.seen, "size", lambda source: (7, 9))
        with pytest.raises(DataError, match=r"its header says 9x7 pixels, but \d+x\d+ were decoded"):
            loader.get(examples[1])


def test_pixels_are_read_only_because_they_are_shared(examples):
    with ImageLoader() as loader:
        (pixels,) = loader.get_pixels(examples[1])
        with pytest.raises(ValueError, match="read-only"):
            pixels[0, 0, 0] = 1


def test_no_thread_and_no_descriptor_is_left_after_close(examples):
    before = set(threading.enumerate())
    descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    loader = ImageLoader(threads=4)
    for example in examples:
        loader.prefetch(example)
    loader.get(examples[0])
    loader.close()
    assert set(threading.enumerate()) == before
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) <= descriptors
    with pytest.raises(RuntimeError, match="closed"):
        loader.get(examples[0])


def test_prefetch_does_not_wait_for_the_decode(examples):
    with ImageLoader(threads=1) as loader:
        start = time.perf_counter()
        for example in list(examples) * 1000:
            loader.prefetch(example)
        assert time.perf_counter() - start < 2
        assert len(loader.get(examples[3])) == 3


def test_a_pil_image_is_taken_as_it_is(draw):
    from triptych_data import ImageSource

    picture = draw(20, 10)
    assert probe_image(ImageSource(ref=picture)) == (10, 20)
    assert np.array_equal(np.asarray(load_image(ImageSource(ref=picture))), np.asarray(picture))
    assert ImageSource(ref=picture) == ImageSource(ref=Image.fromarray(np.asarray(picture)))


def test_images_of_an_example_that_failed_do_not_hold_memory(examples, tmp_path):
    data = (tmp_path / "4.png").read_bytes()
    (tmp_path / "4.png").write_bytes(data[:-300])
    with ImageLoader(threads=1, memory_bytes=9_000) as loader:
        loader.prefetch(examples[3])
        with pytest.raises(DataError, match="4.png"):
            loader.get(examples[3])
        loader.prefetch(examples[0])
        deadline = time.monotonic() + 10
        while loader.decodes < 4 and time.monotonic() < deadline:  # needs the memory of the failed example's images
            time.sleep(0.01)
        assert loader.decodes == 4


def test_a_forked_process_is_told_to_make_its_own_loader(examples):
    import multiprocessing

    def child(loader, example, send):
        try:
            loader.get(example)
        except RuntimeError as error:
            send.send(str(error))

    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    with ImageLoader() as loader:
        loader.get(examples[0])
        process = context.Process(target=child, args=(loader, examples[0], send))
        process.start()
        try:
            assert receive.poll(60)
            assert "was made in another process" in receive.recv()
        finally:
            process.kill()
            process.join()
            process.close()
            receive.close()
            send.close()
