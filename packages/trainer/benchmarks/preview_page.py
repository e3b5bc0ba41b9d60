"""What `triptych preview` costs: making a page of many rows, and how fast it answers in a browser.

    python packages/trainer/benchmarks/preview_page.py [--rows 10000] [--model DIR]

Rows hold 0 to 4 images, half of them PNG drawings of 56 to 111 pixels, half JPEG photographs of up to 320. The page is
made in a process of its own; the browser's times run from the click to the first frame after it, median of 9.
"""

import argparse
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

WORDS = "the screen shows a list of items with a button below and an error above it".split()  # noqa: SIM905
AFTER_FRAME = "await new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
SETTER = """const set = (id, value) => {
  const node = document.getElementById(id);
  node.value = value;
  node.dispatchEvent(new Event("input"));
};"""
ACTIONS = {
    "next page": "document.getElementById('next').click()",
    "filter by images": "set('images', '{k}')",
    "filter by problem": "set('problem', ['*', '-'][{k} % 2])",
    "search": "set('query', ['button', 'error above', 'nowhere'][{k} % 3])",
    "order": "set('order', ['', 'most-images'][{k} % 2])",
}


def write_rows(folder: Path, num_rows: int) -> Path:
    """Write the data and return the JSONL's path."""
    rng = random.Random(0)
    noise = np.random.default_rng(0).integers(0, 40, (320, 320, 3), dtype=np.uint8)
    shades = (np.mgrid[0:320, 0:320].sum(0)[..., None] * np.array([0.3, 0.2, 0.25])).astype(np.uint8)
    (folder / "images").mkdir()
    number = 0
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as lines:
        for index in range(num_rows):
            pieces = rng.choices(WORDS, k=rng.randrange(20, 150))
            names = []
            for _ in range(rng.choice((0, 1, 2, 2, 3, 4))):
                names.append(f"images/{number}.{'jpg' if number % 2 else 'png'}")
                picture(number, noise + shades, rng).save(folder / names[-1])
                pieces.insert(rng.randrange(len(pieces) + 1), "<image>")
                number += 1
            turns = [{"from": "human", "value": " ".join(pieces)}, {"from": "gpt", "value": rng.choice(WORDS)}]
            lines.write(json.dumps({"id": index, "image": names, "conversations": turns}) + "\n")
    return folder / "rows.jsonl"


def picture(number: int, photograph: np.ndarray, rng: random.Random) -> Image.Image:
    """A drawing for even numbers, a photograph for odd ones, no two alike."""
    if number % 2:
        return Image.fromarray(
            (photograph + np.uint8(number % 97))[: rng.randrange(90, 240), : rng.randrange(120, 320)]
        )
    return Image.new("RGB", (56 + number % 56, 56), (number % 256, number // 7 % 256, number // 49 % 256))


def make_page(data: Path, out: Path, model: str | None) -> str:
    """Run the command and return what it took."""
    run = "from triptych_trainer.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", run, "preview", str(data), "-o", str(out), "--quiet"]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, *(["--model", model] if model else [])], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode > 1:
        raise SystemExit(done.stderr)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(done.stdout.strip())
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 2**10
    size = out.stat().st_size / 2**20
    return f"{seconds:.1f} s by the clock, {cpu:.1f} s of CPU time, {peak:.0f} MB peak, page of {size:.1f} MB"


def browse(page: Path, *, rounds: int = 9) -> dict[str, float]:
    """Milliseconds from opening to usable, and of each action."""
    from playwright.sync_api import sync_playwright

    chromium = next(path for name in ("chromium", "google-chrome") if (path := shutil.which(name)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        loads = []
        for _ in range(3):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.goto(page.as_uri())
            loads.append(tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
        found = {"open": statistics.median(loads)}
        for name, action in ACTIONS.items():
            taken = [tab.evaluate(timed(action.replace("{k}", str(1 + k % 4)))) for k in range(rounds)]
            tab.evaluate(f"() => {{ {SETTER} for (const id of ['query', 'images', 'problem', 'order']) set(id, ''); }}")
            found[name] = statistics.median(taken)
        found["elements in the document"] = tab.evaluate("document.querySelectorAll('*').length")
        browser.close()
    return found


def timed(action: str) -> str:
    """A script that returns the milliseconds from an action to the frame after it."""
    measured = f"const start = performance.now(); {action}; {AFTER_FRAME}; return performance.now() - start;"
    return f"async () => {{ {SETTER} {measured} }}"


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--model", metavar="DIR", help="count tokens with this model's processor")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = write_rows(Path(folder), options.rows)
        print(make_page(data, Path(folder) / "preview.html", options.model))
        for name, value in browse(Path(folder) / "preview.html").items():
            print(f"{name}: {value:.0f}{'' if name.startswith('elements') else ' ms'}")


if __name__ == "__main__":
    main()
