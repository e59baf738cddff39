"""The wheel: built, unpacked elsewhere, it speaks of its own files and not of the checkout's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from tests.speaking_subject import make_speaking_subject
from tests.test_batch import tone

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("radnerf", "cli", "stages")


@dataclass(frozen=True)
class Installed:
    """A wheel, unpacked.

    Attributes:
        site: Where, instead of in ``site-packages``.
        folder: An empty folder to work in.
    """

    site: Path
    folder: Path

    def radnerf(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Type a radnerf command; its stages run the same code."""
        # What is on PYTHONPATH comes before the checkout that the environment knows.
        environment = {**os.environ, "PYTHONPATH": str(self.site), "XDG_DATA_HOME": str(self.folder / "data")}
        environment.pop("RADNERF_HOME", None)
        command = [sys.executable, "-P", "-m", "cli.app", *words]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    wheel = pytest.importorskip("hatchling.builders.wheel")
    made = tmp_path_factory.mktemp("wheel")
    (file,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(made), versions=["standard"])
    with zipfile.ZipFile(file) as archive:
        archive.extractall(made / "site")
    (made / "empty").mkdir()
    return Installed(made / "site", made / "empty")


def test_it_holds_every_file_of_the_packages_and_the_workflow(installed: Installed) -> None:
    def files(root: Path) -> set[str]:
        found = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {path.relative_to(root).as_posix() for path in found}

    for package in PACKAGES:
        expected = files(ROOT / package)
        assert expected == {name for name in files(installed.site / package) if not name.startswith("workflow/")}
    workflow = installed.site / "radnerf" / "workflow"
    assert (workflow / "Snakefile").read_bytes() == (ROOT / "Snakefile").read_bytes()
    for folder in ("envs", "profiles"):
        assert files(workflow / folder) == files(ROOT / folder)


def test_its_commands_are_functions_that_are(installed: Installed) -> None:
    (information,) = installed.site.glob("radnerf-*.dist-info")
    scripts = list(metadata.PathDistribution(information).entry_points)
    assert {script.name for script in scripts} == {"radnerf"}
    for script in scripts:
        assert callable(script.load()), script
    assert (information / "licenses" / "LICENSE").is_file()


def test_it_helps_and_finds_its_own_workflow(installed: Installed) -> None:
    assert "speak" in installed.radnerf("--help").stdout
    told = json.loads(installed.radnerf("doctor", "--json").stdout)
    found = {check["what"]: check["found"] for check in told["checks"]}
    assert str(installed.site / "radnerf" / "workflow" / "Snakefile") in found["snakemake"]


def test_a_subject_that_came_in_a_pack_is_about_to_speak(installed: Installed, tmp_path: Path) -> None:
    """Only about to: what compiles its kernels anew, as code in a new place does, takes a minute."""
    make_speaking_subject(tmp_path, "anna")
    packed = installed.radnerf("pack", "anna", "--home", str(tmp_path), "-o", "anna.radnerf")
    assert packed.returncode == 0, packed.stderr
    assert installed.radnerf("unpack", "anna.radnerf", "--name", "bert").returncode == 0
    tone(installed.folder / "speech.wav")
    asked = installed.radnerf("speak", "bert", "speech.wav", "-o", "out.mp4", "--", "--dry-run", "--printshellcmds")
    assert f"Snakefile: {installed.site}/radnerf/workflow/Snakefile" in asked.stderr, asked.stderr
    assert re.search(r"radnerf stage render bert --speech speech-\w+", asked.stderr), asked.stderr
    assert not (installed.folder / "out.mp4").exists()
