"""The Typer application, and the one place that turns an error into a line and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from typing import NoReturn

import typer

import radnerf  # noqa: F401 - before anything imports torch
from cli import (
    batch,
    bench,
    demo,
    doctor,
    evaluate,
    live,
    models,
    pack,
    peers,
    prepare,
    report,
    speak,
    stage,
    status,
    train,
    verify,
    view,
)
from cli.events import VARIABLE, tell_error
from cli.help_pages import PageCommand, PageGroup
from cli.options import PassingCommand, examples
from stages.errors import RadnerfError

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

FAILED = 1
"""Exit code when something failed that the user's input does not explain."""

USAGE = 2
"""Exit code when what was typed or given cannot be used."""

app = typer.Typer(
    name="radnerf",
    cls=PageGroup,
    help="A video of a talking person in, a portrait that speaks any audio out.",
    epilog=examples(
        "radnerf prepare anchor.mp4",
        "radnerf train anchor --preset draft",
        "radnerf speak anchor speech.wav -o out.mp4",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PORTRAIT = "Make a portrait"
SPEECH = "Let it speak"
LOOK = "Look at it"
SHARE = "Take it along, bring one in"
MACHINE = "This machine"

app.command(cls=PassingCommand, epilog=prepare.EXAMPLES, rich_help_panel=PORTRAIT)(prepare.prepare)
app.command(cls=PassingCommand, epilog=train.EXAMPLES, rich_help_panel=PORTRAIT)(train.train)
app.command(cls=PageCommand, epilog=demo.EXAMPLES, rich_help_panel=PORTRAIT)(demo.demo)
app.command(cls=PassingCommand, epilog=speak.EXAMPLES, rich_help_panel=SPEECH)(speak.speak)
app.command(cls=batch.BatchCommand, epilog=batch.EXAMPLES, rich_help_panel=SPEECH)(batch.batch)
app.command(cls=PageCommand, epilog=verify.EXAMPLES, rich_help_panel=SPEECH)(verify.verify)
app.command(cls=PageCommand, epilog=live.EXAMPLES, rich_help_panel=SPEECH)(live.live)
app.command(cls=PageCommand, epilog=view.EXAMPLES, rich_help_panel=LOOK)(view.view)
app.command(cls=PageCommand, epilog=status.EXAMPLES, rich_help_panel=LOOK)(status.status)
app.command(cls=PassingCommand, epilog=evaluate.EXAMPLES, rich_help_panel=LOOK)(evaluate.evaluate)
app.command(cls=PassingCommand, epilog=report.EXAMPLES, rich_help_panel=LOOK)(report.report)
app.command(cls=PageCommand, epilog=pack.PACK_EXAMPLES, rich_help_panel=SHARE)(pack.pack)
app.command(cls=PageCommand, epilog=pack.UNPACK_EXAMPLES, rich_help_panel=SHARE)(pack.unpack)
app.command("import", cls=PageCommand, epilog=peers.IMPORT_EXAMPLES, rich_help_panel=SHARE)(peers.import_data)
app.command(cls=PageCommand, epilog=peers.EXPORT_EXAMPLES, rich_help_panel=SHARE)(peers.export)
app.command(cls=PageCommand, epilog=doctor.EXAMPLES, rich_help_panel=MACHINE)(doctor.doctor)
app.command(cls=PageCommand, epilog=models.EXAMPLES, rich_help_panel=MACHINE)(models.models)
app.command(cls=PageCommand, epilog=bench.EXAMPLES, rich_help_panel=MACHINE)(bench.bench)
app.command(cls=PageCommand, epilog=stage.EXAMPLES, rich_help_panel=MACHINE)(stage.stage)


def main() -> NoReturn:
    """Run the command line; every error becomes one line on standard error here, and nowhere else."""
    # A script that runs radnerf in the background hands down an ignored SIGINT; checkpoints are saved on it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminated)
    # A terminal that is closed ends a run as Ctrl-C does; under nohup it goes on.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _terminated)
    sys.exit(run())


def _terminated(number: int, frame: object) -> NoReturn:  # noqa: ARG001 - the signature is signal's
    """End as on Ctrl-C, so that checkpoints are saved and children are ended."""
    raise KeyboardInterrupt


def run() -> int:
    """Run the command that ``sys.argv`` holds; its exit code."""
    try:
        code = app(prog_name="radnerf", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _interrupted()
    except RadnerfError as error:
        return _say(error.message, error.hint, error.exit_code)
    except BrokenPipeError:
        # Whoever read standard output has gone; writing the rest of it at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        return _unexpected(error)
    # Typer makes an exit code of most Ctrl-C itself.
    return _interrupted() if code == INTERRUPTED else code if isinstance(code, int) else 0


def _interrupted() -> int:
    return _say("interrupted; the same command goes on where it stopped", "", INTERRUPTED)


def _unexpected(error: Exception) -> int:
    """Word an exception that no part of radnerf has worded."""
    if isinstance(error, typer.Abort):
        return _interrupted()
    usage = getattr(error, "format_message", None)
    if usage is not None:
        path = getattr(getattr(error, "ctx", None), "command_path", "radnerf")
        return _say(" ".join(usage().split()), f"see '{path} --help'", USAGE)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _say("the disk is full", "free some space; the same command goes on where it stopped", FAILED)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return _say(f"the name {str(error.filename)[:40]!r}… is too long", "give a shorter one", USAGE)
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _say(f"{error.filename} cannot be used: {error.strerror}", "check its rights and its disk", USAGE)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        where = "the GPU's memory" if type(error).__name__ == "OutOfMemoryError" else "memory"
        return _say(f"{where} is full", "end other programs, or lower the size or the rays a step; it goes on", FAILED)
    if "CUDA error" in what or type(error).__name__ == "AcceleratorError":
        return _say(f"the GPU failed: {what[:200]}", "the same command goes on from the last checkpoint", FAILED)
    if VARIABLE in os.environ:
        # Standard error is the stage's log here.
        traceback.print_exc()
        return _say(what, "this is a bug; please report it with the stage's log from the subject's logs/", FAILED)
    return _say(what, "this is a bug; RADNERF_DEBUG=1 shows where, please report it", FAILED)


def _say(message: str, hint: str, code: int) -> int:
    """One line on standard error, the trace with ``RADNERF_DEBUG=1``, and word to the run that started this process."""
    if os.environ.get("RADNERF_DEBUG") == "1":
        traceback.print_exc()
    tell_error(message, hint, code)
    line = f"error: {message} ({hint})" if hint else f"error: {message}"
    # A file's name may hold line breaks and colours of its own.
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
    if code == INTERRUPTED:
        line = message
    print(line, file=sys.stderr)  # noqa: T201 - the command line's own voice
    return code


if __name__ == "__main__":
    main()
