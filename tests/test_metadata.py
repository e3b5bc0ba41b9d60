"""What a package index and a lawyer read: each package says who may use it, and carries the licence that says so."""

import re
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("parser", "kernels", "data", "trainer")
UV = shutil.which("uv")


def project(package: str) -> dict:
    return tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("key", ["version", "requires-python", "license", "license-files", "authors", "readme"])
def test_the_packages_agree(key):
    values = {package: project(package)[key] for package in PACKAGES}
    assert len({str(value) for value in values.values()}) == 1, values


@pytest.mark.parametrize("package", PACKAGES)
def test_the_packages_pin_one_another_to_their_own_version(package):
    ours = [name for name in project(package)["dependencies"] if name.startswith("triptych-")]
    assert all(name.endswith(f"=={project(package)['version']}") for name in ours), ours


@pytest.mark.parametrize(("tag", "accepted"), [("v{}", True), ("v{}.1", False)])
def test_a_release_has_the_version_of_its_tag(tag, accepted):
    words = ["bash", ROOT / "scripts" / "check_tag.sh", tag.format(project("parser")["version"])]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (told.returncode == 0) == accepted, told.stdout
    assert project("parser")["version"] in told.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_classifiers_say_what_is_true(package):
    classifiers = project(package)["classifiers"]
    assert classifiers == sorted(set(classifiers))
    assert not [name for name in classifiers if name.startswith("License ::")], "the SPDX expression says it"
    oldest = project(package)["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {oldest}" in classifiers
    typed = ROOT / "packages" / package / "src" / f"triptych_{package}" / "py.typed"
    assert ("Typing :: Typed" in classifiers) == typed.exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_has_the_licence_of_the_repository(package):
    assert (ROOT / "packages" / package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_on_an_index_has_no_link_that_only_the_repository_can_follow(package):
    text = (ROOT / "packages" / package / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((?!https?://|#)[^)]*\)", text) == []


def test_extras_have_the_names_of_the_field_and_lead_to_packages_that_exist():
    extras = {package: project(package).get("optional-dependencies", {}) for package in PACKAGES}
    wanted = "vllm quantization deepspeed math judge tensorboard wandb trackio fast envs all"
    assert set(wanted.split()) <= extras["trainer"].keys()
    assert {"torch", "hub", "fast", "remote"} <= extras["data"].keys()
    for own in extras.values():
        for requirement in (line for lines in own.values() for line in lines if line.startswith("triptych-")):
            package, names = re.match(r"triptych-(\w+)\[([\w,]+)\]", requirement).groups()
            assert set(names.split(",")) <= extras[package].keys(), requirement


def test_the_data_package_installs_neither_torch_nor_datasets_by_itself():
    names = {re.match(r"[\w-]+", line)[0] for line in project("data")["dependencies"]}
    assert names == {"triptych-parser", "jinja2", "numpy", "pillow", "rich"}


@pytest.mark.slow
@pytest.mark.skipif(UV is None, reason="needs uv on PATH")
@pytest.mark.parametrize("package", ["parser", "data", "trainer"])  # tests/kernels/test_wheel.py builds the fourth
def test_wheel_and_source_distribution_carry_the_licence_and_the_pages(package, tmp_path):
    command = [UV, "build", "--quiet", "--out-dir", str(tmp_path), str(ROOT / "packages" / package)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    expected = (ROOT / "LICENSE").read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
        assert archive.read(name) == expected
    with tarfile.open(sdist) as archive:
        (name,) = [name for name in archive.getnames() if name.endswith("/LICENSE")]
        assert archive.extractfile(name).read() == expected
        packed = set(archive.getnames())
    src = ROOT / "packages" / package / "src"
    files = {path.relative_to(src).as_posix() for path in src.rglob("assets/*.*")}
    assert files <= set(zipfile.ZipFile(wheel).namelist()), "templates, styles and scripts of the pages"
    assert {name for name in files if not any(one.endswith(f"/src/{name}") for one in packed)} == set()
    assert (package == "data") == any(name.endswith("pages/assets/page.html") for name in files)
