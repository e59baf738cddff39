"""``docs/settings.md``, made from the settings themselves: ``python -m cli.settings_page > docs/settings.md``."""

from __future__ import annotations

import inspect
import re
import sys
import typing

from stages.settings import PRESETS, STAGES, SubjectSettings
from stages.settings_reading import resolve, to_mapping

_INTRODUCTION = """\
# Settings

Every value below can be set in a subject's `subject.yaml`, or with `--set STAGE.KEY=VALUE` on `prepare` and `train`,
which writes it there:

```yaml
preset: draft
settings:
  head: {steps: 5000, size_px: 192}
  pose: {smoothing: 2.0}
```

A preset is where values start from; what `settings` says wins. An unknown stage or key is an error that names the
close match. A change re-runs the stage that it belongs to and what depends on it, and nothing else:
`radnerf status SUBJECT` shows beforehand what would run and why.

This page is made from the code by `make docs`.
"""


def settings_page() -> str:
    """The page as Markdown: a section a stage, what each key means, and its value in each preset."""
    kinds = typing.get_type_hints(SubjectSettings)
    return "\n".join([_INTRODUCTION, *(_section(stage, kinds[stage]) for stage in STAGES)])


def _section(stage: str, kind: type) -> str:
    text = inspect.cleandoc(kind.__doc__ or "")
    summary, _, rest = text.partition("Attributes:")
    entries = re.sub(r"\n {8,}", " ", rest)
    meanings = [f"- {line.strip()}" for line in entries.splitlines() if line.strip()]
    values = {preset: to_mapping(getattr(resolve(preset, {}), stage)) for preset in PRESETS}
    header = ["key", *PRESETS]
    rows = [[f"`{key}`", *(_show(values[preset][key]) for preset in PRESETS)] for key in values["draft"]]
    lines = ["| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows]]
    return "\n".join([f"## {stage}", "", summary.strip().replace("``", "`"), "", *meanings, "", *lines, ""]).replace(
        "``", "`"
    )


def _show(value: object) -> str:
    return "chosen" if value is None else "default" if value == "" else str(value)


if __name__ == "__main__":
    sys.stdout.write(settings_page())
