"""Where a subject's files lie."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from stages.errors import BadInput
from stages.workspace import SpeechFolder, Workspace, check_name, open_subject


def paths(folder: object) -> dict[str, Path]:
    """Every path that a folder's properties name."""
    found = inspect.getmembers(type(folder), lambda member: isinstance(member, property))
    return {name: getattr(folder, name) for name, _ in found}


@pytest.mark.parametrize("folder", [Workspace(Path("home/subjects/a")), SpeechFolder(Path("home/speech/b"))])
def test_every_path_lies_in_the_folder_and_is_spelled_once(folder: Workspace | SpeechFolder) -> None:
    found = paths(folder)
    assert len(set(found.values())) == len(found)
    assert all(path.is_relative_to(folder.root) for path in found.values())


@pytest.mark.parametrize("name", ["a", "Anna_2", "x.y-z", "9", "a" * 64])
def test_plain_names_are_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "-a", ".a", "a b", "é", "a\n", "a" * 65, "{a}"])
def test_names_that_are_no_plain_folder_are_refused(name: str) -> None:
    with pytest.raises(BadInput):
        check_name(name)


def test_a_missing_subject_names_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no subject 'a' under .*there is none yet"):
        open_subject(tmp_path, "a")
    there = tmp_path / "subjects" / "anna"
    there.mkdir(parents=True)
    (there / "subject.yaml").touch()
    with pytest.raises(BadInput, match=r"there are: anna; 'radnerf prepare VIDEO --name a' makes it"):
        open_subject(tmp_path, "a")
    assert open_subject(tmp_path, "anna").root == there
