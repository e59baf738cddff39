"""``radnerf batch``: many videos in one run that keeps going."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import astuple, replace
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from cli import completion, events
from cli.batch_board import Board, Job, State
from cli.batch_file import Asked, ask, read_rows
from cli.console import Console, duration
from cli.help_pages import RUNNING, PageCommand
from cli.options import (
    AsJson,
    BackendName,
    Deployment,
    DeviceName,
    Home,
    ProfileName,
    Quiet,
    examples,
    read_backend,
    read_deployment,
    read_device,
    read_home,
    read_profile,
)
from cli.plan import TRAINING, speech_chain, stale_steps
from cli.snakemake_call import Execution
from cli.speech_plan import Plan, Wishes, check_room, check_sound, hand_out, plan_speech, write_job
from cli.subject import write_settings
from cli.workflow import hold, last_words, run_snakemake, unlock
from stages.atomic_files import sha256_of
from stages.errors import BadInput, RadnerfError
from stages.workspace import Workspace

EXAMPLES = examples(
    "radnerf batch jobs.csv",
    "radnerf batch jobs.yaml --json > summary.json",
    "radnerf batch 'talks/*.wav' --subject anchor --output-dir videos",
    "radnerf batch jobs.csv --gpu-jobs 2",
    "radnerf batch jobs.csv -- --dry-run",
    codes={1: "a job failed; the others were made"},
)

WORST_ROWS = 5
"""So many bad rows are named in the message that refuses a list."""


class BatchCommand(PageCommand):
    """A command that keeps what follows ``--`` for Snakemake, beside a list of files of any length."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - typer's own context type is private
        """Parse what comes before the ``--``."""
        own, rest = (args[: args.index("--")], args[args.index("--") + 1 :]) if "--" in args else (args, [])
        ctx.meta["radnerf.snakemake_args"] = tuple(rest)
        return super().parse_args(ctx, own)


def batch(
    context: typer.Context,
    jobs: Annotated[
        list[str], typer.Argument(metavar="JOBS...", help="jobs.csv, jobs.yaml, or sound files.", show_default=False)
    ],
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject",
            "-s",
            metavar="SUBJECT",
            help="For rows that name none.",
            autocompletion=completion.subjects,
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-d", metavar="DIR", help="For rows that name no output.  [default: here]"),
    ] = None,
    gpu_jobs: Annotated[
        int,
        typer.Option(
            "--gpu-jobs",
            metavar="N",
            min=1,
            max=64,
            help="Videos rendered at the same time.",
            rich_help_panel=RUNNING,
        ),
    ] = 1,
    backend: BackendName = "auto",
    device: DeviceName = "auto",
    profile: ProfileName = None,
    sdm: Deployment = None,
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Render many speeches, of one subject or several, in one run that goes on when a job fails.

    A list has a row for each video, with the columns subject, speech, output and options; any option of
    'radnerf speak' may be a column of its own. A row means what the same words mean after 'radnerf speak'. Bad
    rows are refused before any work starts; a speech that turns out bad fails alone. The same command again does
    only what is missing or stale. Ends with 1 when a job failed. What follows '--' is passed on to Snakemake.
    """
    began = time.monotonic()
    console = Console(json=as_json, quiet=quiet)
    home = read_home(home)
    if output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
    execution = Execution(
        read_backend(backend),
        read_device(device),
        context.meta["radnerf.snakemake_args"],
        read_profile(profile),
        read_deployment(sdm),
        keep_going=True,
        gpu_jobs=gpu_jobs,
    )
    planned = plan_jobs(home, jobs, subject, output_dir)
    run_jobs(home, planned, execution, console)
    if execution.snakemake_args and all(job.state == State.WAITING for job in planned):
        return
    summary = summarise(planned, time.monotonic() - began)
    console.result(summary, _words(summary))
    if summary["failed"]:
        raise typer.Exit(1)


def plan_jobs(home: Path, sources: list[str], subject: str | None, folder: Path | None) -> list[Job]:
    """Read every row and check all of them before any work starts.

    Raises:
        BadInput: A row cannot be used, or two rows have the same output.
    """
    found: list[Job] = []
    bad: list[str] = []
    taken: dict[Path, str] = {}
    for row in read_rows(sources):
        try:
            asked = ask(row, subject, folder)
            plan = plan_speech(home, asked.subject, asked.speech, asked.wishes)
        except BadInput as error:
            bad.append(f"{row.place}: {error}")
            continue
        output = plan.output.resolve()
        if output in taken:
            bad.append(f"{row.place}: writes {plan.output.name}, as {taken[output]} does (give each its own output)")
            continue
        taken[output] = row.place
        found.append(Job(row.place, plan, job_id(asked, plan)))
    if bad:
        more = f"; and {len(bad) - WORST_ROWS} more" if len(bad) > WORST_ROWS else ""
        count = "1 job" if len(bad) == 1 else f"{len(bad)} jobs"
        raise BadInput(
            f"{count} of {len(bad) + len(found)} cannot be used: {'; '.join(bad[:WORST_ROWS])}{more}",
            hint="nothing was started; mend the list",
        )
    return found


def job_id(asked: Asked, plan: Plan) -> str:
    """The speech's folder: the one that ``speak`` takes, and one for each set of options beside it."""
    wishes = replace(asked.wishes, output=None)
    if wishes == Wishes():
        return plan.speech_id
    return f"{plan.speech_id}-{hashlib.sha256(repr(astuple(wishes)).encode()).hexdigest()[:6]}"


def run_jobs(home: Path, jobs: list[Job], execution: Execution, console: Console) -> None:
    """Bring every job's video up to date; each job says at the end how it went.

    Raises:
        SubjectBusy: Another run holds one of the subjects.
        KeyboardInterrupt: Ctrl-C; what was made until then is there.
    """
    workspaces = {job.key[0]: job.plan.workspace for job in jobs}
    board = Board(jobs, console)
    token = uuid4().hex
    with ExitStack() as stack:
        for name in sorted(workspaces):
            stack.enter_context(hold(workspaces[name], token))
            write_settings(workspaces[name], next(job.plan.record for job in jobs if job.key[0] == name).resolved())
        _prepare(jobs, board)
        waiting = [job for job in jobs if job.state == State.WAITING]
        for name in sorted({job.key[0] for job in waiting}):
            _warn_of_training(next(job for job in waiting if job.key[0] == name), console)
        if waiting:
            _run(home, list(workspaces.values()), waiting, execution, board, token)


def _prepare(jobs: list[Job], board: Board) -> None:
    """Write each job's folder; jobs that are up to date, and speeches that cannot be spoken, end here."""
    for job in jobs:
        workspace = job.plan.workspace
        try:
            known = workspace.speech(job.speech_id).source
            if not (known.is_file() and sha256_of(known) == job.plan.source.sha256):
                check_room(job.plan, check_sound(job.plan))
            write_job(job.plan, job.speech_id)
        except RadnerfError as error:
            job.end(State.FAILED, error)
        else:
            if not stale_steps(speech_chain(workspace, job.speech_id)):
                _hand_out(job, State.KEPT)
        if job.state != State.WAITING:
            board.tell(job)


def _warn_of_training(job: Job, console: Console) -> None:
    stale = stale_steps(speech_chain(job.plan.workspace, job.speech_id))
    again = [stage for stage in TRAINING if stage in stale]
    if again:
        console.remark(f"{job.key[0]} changed since its training: {' and '.join(again)} will be trained")


def _run(
    home: Path, workspaces: list[Workspace], jobs: list[Job], execution: Execution, board: Board, token: str
) -> None:
    """One run of Snakemake over all of them."""
    names = "\n".join(sorted(workspace.root.name for workspace in workspaces))
    # Books for each set of subjects: whoever holds the subjects holds the books, so a lock in them is a dead run's.
    folder = home / "subjects" / ".workflow" / f".batch-{hashlib.sha256(names.encode()).hexdigest()[:12]}"
    unlock(folder, jobs[0].plan.workspace.frames)
    targets = [job.plan.workspace.speech(job.speech_id).video for job in jobs]
    log = folder / "snakemake.log"
    follower = _Follower(jobs, board)
    with board.live():
        well = run_snakemake(folder, token, list(dict.fromkeys(targets)), execution, log, follower.heed)
    if execution.snakemake_args and well and all(job.state == State.WAITING for job in jobs):
        return
    for job in jobs:
        if job.state in (State.MADE, State.KEPT):
            continue
        if not stale_steps(speech_chain(job.plan.workspace, job.speech_id)):
            _hand_out(job, State.MADE)
        else:
            job.end(State.FAILED, job.error or follower.reason(job) or _logged(job, log))
        board.tell(job)


class _Follower:
    """Keeps the jobs in step with what the stages tell."""

    def __init__(self, jobs: list[Job], board: Board) -> None:
        self._jobs: dict[tuple[str, str], list[Job]] = {}
        for job in jobs:
            self._jobs.setdefault(job.key, []).append(job)
        self._board = board
        self._failures: dict[str, RadnerfError] = {}

    def reason(self, job: Job) -> RadnerfError | None:
        """Why a stage failed that the job waited for."""
        return self._failures.get(job.key[0])

    def heed(self, told: Iterator[events.Event]) -> None:
        """Handle what was told since the last time."""
        for event in told:
            subject, speech = event.about
            if not speech:
                self._heed_subject(subject, event)
            for job in self._jobs.get((subject, speech), []):
                self._heed_job(job, event)

    def _heed_subject(self, name: str, event: events.Event) -> None:
        if event.kind == "error":
            self._failures[name] = event.error
        if event.kind in ("error", "end"):
            self._board.subjects.pop(name, None)
        else:
            of = f" {event.progress.done}/{event.progress.total}" if event.kind == "progress" else ""
            self._board.subjects[name] = f"{event.stage}{of}"

    def _heed_job(self, job: Job, event: events.Event) -> None:
        if event.kind == "start":
            job.work(event.stage)
        elif event.kind == "progress":
            job.work(event.stage, event.progress)
        elif event.kind == "error":
            # Where a profile says so, the workflow tries again; until the run has ended nothing is told.
            job.end(State.FAILED, event.error)
        elif event.stage != "render":
            job.pause()
        else:
            _hand_out(job, State.MADE)
            self._board.tell(job)


def _hand_out(job: Job, state: State) -> None:
    """Put a finished video where it was asked for, unless it is there."""
    try:
        hand_out(job.plan, job.speech_id)
    except RadnerfError as error:
        job.end(State.FAILED, error)
    else:
        job.end(state)


def _logged(job: Job, log: Path) -> RadnerfError:
    """What is known of a failure that no stage has worded."""
    for name in (f"render-{job.speech_id}", f"audio-{job.speech_id}"):
        own = job.plan.workspace.log(name)
        if own.is_file() and own.stat().st_size:
            return RadnerfError(last_words(own), hint=f"read {own}")
    return RadnerfError(f"the workflow did not make it: {last_words(log)}", hint=f"read {log}")


def summarise(jobs: list[Job], seconds: float) -> dict[str, Any]:
    """What ``batch --json`` says."""
    told = [
        {
            "subject": job.key[0],
            "speech": str(job.plan.speech),
            "video": str(job.plan.output),
            "state": {State.MADE: "made", State.KEPT: "kept"}.get(job.state, "failed"),
            "seconds": round(job.seconds, 2),
            "error": str(job.error) if job.error is not None else None,
            "place": job.place,
        }
        for job in jobs
    ]
    count = {state: sum(item["state"] == state for item in told) for state in ("made", "kept", "failed")}
    return {**count, "seconds": round(seconds, 2), "jobs": told}


def _words(summary: dict[str, Any]) -> str:
    failed = [f"{job['place']}: {job['error']}" for job in summary["jobs"] if job["state"] == "failed"]
    counts = f"{summary['made']} made, {summary['kept']} up to date, {summary['failed']} failed"
    return "\n".join([*failed, f"{counts}, in {duration(summary['seconds'])}"])
