"""A subject that is made elsewhere appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from cli.subject import books_folder, remove_empty, remove_subject
from cli.workflow import hold
from stages.errors import BadInput
from stages.workspace import Workspace


@contextmanager
def new_subject(workspace: Workspace, *, force: bool) -> Iterator[Workspace]:
    """A folder of the same name to make a subject in, which takes its place when the block ends well.

    Args:
        workspace: Where the subject is to be.
        force: Whether it may replace another one.

    Raises:
        BadInput: There is one already, and force is not given.
        SubjectBusy: Another run holds the one that is to be replaced.
    """
    if workspace.root.exists() and not force:
        raise BadInput(f"there is a subject {workspace.root.name!r} already", hint="give another --name, or --force")
    staging_root = books_folder(workspace).with_name(f"new-{os.getpid()}")
    staging = Workspace(staging_root / workspace.root.name)
    staging.root.mkdir(parents=True)
    try:
        yield staging
        if workspace.subject.is_file():
            with hold(workspace):
                remove_subject(workspace)
        elif workspace.root.exists():
            shutil.rmtree(workspace.root)
        staging.root.replace(workspace.root)
    finally:
        shutil.rmtree(staging_root, ignore_errors=True)
        remove_empty(staging_root.parent)
