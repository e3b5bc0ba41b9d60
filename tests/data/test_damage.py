"""What `check` passes, a run decodes: cut and damaged pictures of every format, in files, rows, archives and tables."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from triptych_data import DataError, ImageLoader, ImagePolicy, read_examples
from triptych_data.check import main

FORMATS = {"JPEG": {}, "PNG": {}, "WEBP": {}, "GIF": {}, "TIFF": {"compression": "tiff_lzw"}, "BMP": {}, "AVIF": {}}
MODES = {"CMYK": "JPEG", "L": "JPEG", "P": "PNG", "RGBA": "PNG", "I;16": "PNG", "1": "PNG"}


def drawn(mode: str = "RGB") -> Image.Image:
    gradient = Image.linear_gradient("L").resize((160, 120)).rotate(30)
    if mode == "I;16":
        return gradient.convert("I").point(lambda value: value * 250).convert("I;16")
    return Image.merge("RGB", (gradient, gradient.rotate(90), gradient.rotate(170))).convert(mode)


def encoded(format: str, picture: Image.Image | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    (picture or drawn()).save(buffer, format, **FORMATS[format], **options)
    return buffer.getvalue()


def whole_files() -> dict[str, bytes]:
    files = {format.lower(): encoded(format) for format in FORMATS}
    files |= {
        f"{mode.replace(';', '')}.{format.lower()}": encoded(format, drawn(mode)) for mode, format in MODES.items()
    }
    files["progressive.jpeg"] = encoded("JPEG", progressive=True)
    frames = {"save_all": True, "append_images": [drawn().rotate(40), drawn().rotate(80)]}
    return files | {f"film.{format.lower()}": encoded(format, **frames) for format in ("GIF", "PNG", "WEBP", "TIFF")}


def damaged(data: bytes) -> dict[str, bytes]:
    """The same file, cut or with other bytes at several places."""
    found = {"whole": data}
    for share in (0.2, 0.5, 0.9):
        place = int(len(data) * share)
        found[f"cut at {share}"] = data[:place]
        found[f"zeros at {share}"] = data[:place] + bytes(12) + data[place + 12 :]
        found[f"a bit at {share}"] = data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]
    found |= {f"cut by {count}": data[:-count] for count in (1, 2, 40)}
    return found | {"stray bytes behind": data + b"stray" * 9, "zeros behind": data + bytes(64)}


def refused_by_check(rows: Path, *options: str) -> set[str]:
    report = rows.with_suffix(".report")
    main([str(rows), "--workers", "1", "--json", str(report), *options])
    return {row["id"] for row in json.loads(report.read_text())["refused_rows"]}


def refused_by_loader(rows: Path, policy: ImagePolicy) -> set[str]:
    found = set()
    examples = read_examples(rows, policy=policy, check_images=False)
    with ImageLoader(threads=2, policy=policy, retry_seconds=()) as loader:
        for k in range(len(examples)):
            try:
                example = examples[k]
                loader.get(example)
            except DataError as error:
                found.add(error.id)
    return found


def write_rows(path: Path, images: dict[str, object]) -> Path:
    rows = [{"id": name, "problem": "<image> red ?", "images": [image]} for name, image in images.items()]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@pytest.mark.parametrize("animated", ["refuse", "first"])
def test_check_refuses_exactly_the_pictures_that_a_run_cannot_decode(animated, tmp_path, capsys):
    images = {}
    for name, whole in whole_files().items():
        for what, data in damaged(whole).items():
            images[f"{name}: {what}"] = file = f"{len(images)}.bin"
            (tmp_path / file).write_bytes(data)
    rows = write_rows(tmp_path / "rows.jsonl", images)
    refused = refused_by_check(rows, "--animated", animated)
    assert refused == refused_by_loader(rows, ImagePolicy(animated=animated))
    assert not any("whole" in name and "film" not in name for name in refused)
    assert {"jpeg: cut at 0.5", "png: cut at 0.9", "webp: cut by 40", "gif: cut at 0.5", "tiff: cut at 0.5"} <= refused
    by_headers = refused_by_check(rows, "--animated", animated, "--no_decode")
    assert by_headers < refused, "what only a decode shows"
    assert "only headers were read (--no_decode): damaged images may pass" in capsys.readouterr().out


def test_damage_is_found_wherever_the_bytes_are(tmp_path):
    whole, cut = encoded("JPEG"), encoded("JPEG")[:-300]
    address = {name: base64.b64encode(data).decode() for name, data in (("whole", whole), ("cut", cut))}
    inline = {f"address {name}": f"data:image/jpeg;base64,{text}" for name, text in address.items()}
    inline |= {f"base64 {name}": text for name, text in address.items()}
    assert refused_by_check(write_rows(tmp_path / "inline.jsonl", inline)) == {"address cut", "base64 cut"}

    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        for key, data in (("whole", whole), ("cut", cut)):
            row = json.dumps({"id": key, "problem": "<image> red ?"}).encode()
            for name, content in ((f"{key}.json", row), (f"{key}.jpg", data)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    assert refused_by_check(tmp_path / "shard.tar") == {"cut"}


def test_damage_is_found_in_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    files = {"whole": encoded("PNG"), "cut": encoded("PNG")[:-200]}
    rows = [{"id": name, "problem": "<image> ?", "images": [{"bytes": data}]} for name, data in files.items()]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert refused_by_check(tmp_path / "rows.parquet") == {"cut"}


def test_an_image_of_many_rows_is_decoded_once_and_its_damage_said_for_each(tmp_path, monkeypatch):
    calls = []
    from triptych_data import inspect_row

    decode = inspect_row.is_guessed_around
    monkeypatch.setattr(inspect_row, "is_guessed_around", lambda *a, **k: calls.append(k["image"]) or decode(*a, **k))
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG"))
    (tmp_path / "cut.jpg").write_bytes(encoded("JPEG")[:-300])
    rows = write_rows(tmp_path / "rows.jsonl", {str(k): "cut.jpg" if k % 4 == 3 else "a.jpg" for k in range(12)})
    assert refused_by_check(rows) == {"3", "7", "11"}
    assert calls.count("a.jpg") == 1
