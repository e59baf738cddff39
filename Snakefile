"""The stages of a talking portrait, joined by files alone.

Paths are relative to a folder two levels below ``subjects/``, where radnerf starts Snakemake; they come from
stages/workspace.py, which spells each once. Every rule runs the command that a person can run by hand.

By hand, from the folder that holds subjects/:
    radnerf train anchor -- --dry-run
"""

import os
from pathlib import Path

from cli.lock import watch_owner
from stages.workspace import Workspace

# A run that is killed cannot end its Snakemake.
watch_owner()

W = Workspace(Path("../../{subject}"))
S = W.speech("{speech}")
FLAGS = " ".join(
    f"--{name} {config[name]}" for name in ("backend", "device") if name in config
)
# A conda environment has no radnerf of its own: the code that was started runs in it.
RADNERF = "python -P -m cli.app" if config.get("sdm") == "conda" else "radnerf"
# On a cluster nobody says how many cores there are; a profile's set-threads does, rule by rule.
CORES = workflow.resource_settings.cores or 8

# Looked at only with --sdm apptainer: an image made from the Containerfile.
if "RADNERF_CONTAINER" in os.environ:

    container: os.environ["RADNERF_CONTAINER"]


wildcard_constraints:
    subject=r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    speech=r"[A-Za-z0-9][A-Za-z0-9_.-]*",


rule frames:
    """Any video becomes 25 fps square frames around the head, and its sound 16 kHz mono."""
    input:
        video=W.source,
        settings=W.settings("frames"),
    output:
        frames=W.frames,
        info=W.frames_info,
        audio=W.audio,
    log:
        W.log("frames"),
    benchmark:
        W.benchmark("frames")
    conda:
        "envs/stages.yaml"
    threads: CORES
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "{RADNERF} stage frames {wildcards.subject} 2> {log}"


rule landmarks:
    """478 face landmarks in every frame."""
    input:
        frames=W.frames,
        settings=W.settings("landmarks"),
    output:
        landmarks=W.landmarks,
    log:
        W.log("landmarks"),
    benchmark:
        W.benchmark("landmarks")
    conda:
        "envs/stages.yaml"
    threads: CORES
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "{RADNERF} stage landmarks {wildcards.subject} 2> {log}"


rule parsing:
    """Head with hair, neck, torso and background, for every pixel of every frame."""
    input:
        frames=W.frames,
        landmarks=W.landmarks,
        settings=W.settings("parsing"),
    output:
        parsing=W.parsing,
    log:
        W.log("parsing"),
    benchmark:
        W.benchmark("parsing")
    conda:
        "envs/stages.yaml"
    threads: CORES
    resources:
        mem_mb=3000,
        runtime=120,
    shell:
        "{RADNERF} stage parsing {wildcards.subject} 2> {log}"


rule background:
    """The static background, the frames over it, and the torso layer with its hidden part filled in."""
    input:
        frames=W.frames,
        parsing=W.parsing,
        landmarks=W.landmarks,
        settings=W.settings("background"),
    output:
        background=W.background,
        layers=W.layers,
    log:
        W.log("background"),
    benchmark:
        W.benchmark("background")
    conda:
        "envs/stages.yaml"
    threads: CORES
    resources:
        mem_mb=3000,
        runtime=120,
    shell:
        "{RADNERF} stage background {wildcards.subject} 2> {log}"


rule pose:
    """Camera, head pose, eyes and mouth of every frame, by bundle adjustment."""
    input:
        landmarks=W.landmarks,
        frames=W.frames,
        settings=W.settings("pose"),
    output:
        track=W.track,
    log:
        W.log("pose"),
    benchmark:
        W.benchmark("pose")
    conda:
        "envs/stages.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "{RADNERF} stage pose {wildcards.subject} 2> {log}"


rule audio:
    """Features of the clip's sound, 50 a second."""
    input:
        audio=W.audio,
        settings=W.settings("audio"),
    output:
        features=W.features,
    log:
        W.log("audio"),
    benchmark:
        W.benchmark("audio")
    conda:
        "envs/stages.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "{RADNERF} stage audio {wildcards.subject} 2> {log}"


rule head:
    """Train the head; goes on from its own checkpoint after an interruption."""
    input:
        layers=W.layers,
        parsing=W.parsing,
        background=W.background,
        track=W.track,
        features=W.features,
        landmarks=W.landmarks,
        settings=W.settings("head"),
    output:
        head=W.head,
        history=W.head_history,
    log:
        W.log("head"),
    benchmark:
        W.benchmark("head")
    conda:
        "envs/stages.yaml"
    threads: CORES
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=2880,
    shell:
        "{RADNERF} stage head {wildcards.subject} {FLAGS} 2> {log}"


rule torso:
    """Train the torso under the frozen head."""
    input:
        layers=W.layers,
        parsing=W.parsing,
        background=W.background,
        track=W.track,
        features=W.features,
        head=W.head,
        settings=W.settings("torso"),
    output:
        torso=W.torso,
        history=W.torso_history,
    log:
        W.log("torso"),
    benchmark:
        W.benchmark("torso")
    conda:
        "envs/stages.yaml"
    threads: CORES
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=1440,
    shell:
        "{RADNERF} stage torso {wildcards.subject} {FLAGS} 2> {log}"


rule evaluate:
    """Compare rendered with true frames on the part of the clip that was not trained on."""
    input:
        layers=W.layers,
        parsing=W.parsing,
        background=W.background,
        track=W.track,
        features=W.features,
        head=W.head,
        torso=W.torso,
        settings=W.settings("evaluate"),
    output:
        evaluation=W.evaluation,
        series=W.evaluation_series,
        pictures=W.evaluation_pictures,
    log:
        W.log("evaluate"),
    benchmark:
        W.benchmark("evaluate")
    conda:
        "envs/stages.yaml"
    threads: CORES
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=120,
    shell:
        "{RADNERF} stage evaluate {wildcards.subject} {FLAGS} 2> {log}"


rule report:
    """One page with pictures, curves and figures, that opens in any browser."""
    input:
        subject=W.subject,
        frames=W.frames,
        info=W.frames_info,
        audio=W.audio,
        parsing=W.parsing,
        track=W.track,
        head=W.head,
        torso=W.torso,
        head_history=W.head_history,
        torso_history=W.torso_history,
        evaluation=W.evaluation,
        series=W.evaluation_series,
        pictures=W.evaluation_pictures,
        settings=W.settings("report"),
    output:
        page=W.report,
    log:
        W.log("report"),
    benchmark:
        W.benchmark("report")
    conda:
        "envs/stages.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "{RADNERF} stage report {wildcards.subject} 2> {log}"


rule speech_audio:
    """Features of a speech, made as the subject's own were."""
    input:
        audio=S.source,
        settings=W.settings("audio"),
    output:
        features=S.features,
    log:
        W.log("audio-{speech}"),
    benchmark:
        W.benchmark("audio-{speech}")
    conda:
        "envs/stages.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "{RADNERF} stage audio {wildcards.subject} --speech {wildcards.speech} 2> {log}"


rule render:
    """Render the portrait as it speaks."""
    input:
        job=S.job,
        speech=S.source,
        features=S.features,
        head=W.head,
        torso=W.torso,
        background=W.background,
        track=W.track,
        settings=W.settings("render"),
    output:
        video=S.video,
        summary=S.summary,
    log:
        W.log("render-{speech}"),
    benchmark:
        W.benchmark("render-{speech}")
    priority: 1
    conda:
        "envs/stages.yaml"
    # One core less than there are: the next speech can be heard beside it, and videos come as early as they can.
    threads: max(1, CORES - 1)
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=1440,
    shell:
        "{RADNERF} stage render {wildcards.subject} --speech {wildcards.speech} {FLAGS} 2> {log}"
