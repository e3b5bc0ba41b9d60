"""The bounds of the packages are checked before a command starts, in one sentence."""

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
import triptych_trainer.cli as cli
from packaging.requirements import Requirement
from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.upstream.transformers_names import TESTED_TRANSFORMERS
from triptych_trainer.upstream.versions import check_torchvision, check_versions, import_checked, requirements_of

PACKAGES = Path(__file__).resolve().parents[3] / "packages"
BOUNDED = {"accelerate", "datasets", "peft", "pillow", "torch", "torchvision", "transformers", "trl"}


def declared(package):
    text = (PACKAGES / package / "pyproject.toml").read_text(encoding="utf-8")
    return [Requirement(line) for line in tomllib.loads(text)["project"]["dependencies"]]


@pytest.mark.parametrize("package", ["kernels", "data", "trainer"])
def test_every_library_that_changes_often_has_a_lower_and_an_upper_bound(package):
    for requirement in declared(package):
        if requirement.name in BOUNDED:
            signs = {clause.operator for clause in requirement.specifier}
            assert {">=", "<"} <= signs, f"{package}: {requirement}"


def test_the_range_of_transformers_in_messages_is_the_declared_one():
    (requirement,) = (entry for entry in declared("trainer") if entry.name == "transformers")
    first, last = TESTED_TRANSFORMERS.split(" to ")
    assert requirement.specifier.contains(f"{first}.0")
    assert requirement.specifier.contains(f"{last}.9")
    major, minor = (int(part) for part in last.split("."))
    assert not requirement.specifier.contains(f"{major}.{minor + 1}.0")


def test_the_installed_libraries_are_inside_the_declared_bounds():
    check_versions([("triptych-trainer", entry) for entry in declared("trainer") if "triptych" not in entry.name])
    assert {entry.name for _, entry in requirements_of(["triptych-trainer"])} >= {"transformers", "trl", "torch"}


@pytest.mark.parametrize("version", ["5.16.3", "5.25.0", "6.0.0.dev0"])
def test_a_version_outside_the_bounds_is_one_sentence_with_its_remedy(version):
    asked = Requirement("transformers>=5.17,<5.25")
    with pytest.raises(IncompatibleVersionError) as caught:
        check_versions([("triptych-trainer", asked)], installed=lambda name: version)
    assert str(caught.value) == (
        f"triptych-trainer works with {asked}, but transformers {version} is installed; pip install '{asked}'"
    )


def test_a_missing_library_is_one_sentence():
    def installed(name):
        raise importlib.metadata.PackageNotFoundError(name)

    with pytest.raises(
        IncompatibleVersionError, match=r"needs trl>=1.16, which is not installed; pip install 'trl>=1.16'"
    ):
        check_versions([("triptych-trainer", Requirement("trl>=1.16"))], installed=installed)


def test_a_command_stops_before_it_imports_anything_that_the_version_may_break(monkeypatch, capsys):
    monkeypatch.setattr(importlib.metadata, "requires", lambda package: ["transformers>=99"])
    assert cli.main(["plan", "--model", "nowhere"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("plan: error: triptych-trainer works with transformers>=99, but transformers ")
    assert said.count("\n") == 1


def test_a_script_stops_at_its_import_too(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "requires", lambda package: ["transformers>=99"])
    with pytest.raises(IncompatibleVersionError, match=r"works with transformers>=99, but transformers .* pip install"):
        from triptych_trainer import MultiImageGRPOTrainer  # noqa: F401


def test_torchvision_may_be_missing():
    def installed(name):
        raise importlib.metadata.PackageNotFoundError(name)

    check_versions([("triptych-trainer", Requirement("torchvision>=0.28"))], installed=installed)


def test_a_torchvision_that_does_not_fit_to_torch_is_one_sentence_when_it_stops_an_import(monkeypatch, tmp_path):
    for name in ("torchvision", "stopped_by_torchvision"):
        (tmp_path / f"{name}.py").write_text('raise RuntimeError("operator torchvision::nms\\ndoes not exist")')
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(IncompatibleVersionError) as caught:
        import_checked("stopped_by_torchvision")
    assert re.fullmatch(
        r"torchvision \S+ cannot be imported together with torch \S+ \(operator torchvision::nms does not exist\); "
        r"install the torchvision that was built for this torch, or none: pip uninstall torchvision",
        str(caught.value),
    )
    monkeypatch.undo()
    check_torchvision()
