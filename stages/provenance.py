"""Every video made here says that it is synthetic: container metadata and a signed C2PA manifest.

The manifest is signed with a key that is made on this machine at first use. It proves that nobody has changed the
file since, and that the same machine signed another one; it does not prove to strangers who the signer is. For that,
give a certificate and its key from an authority.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stages.atomic_files import atomic_path, sha256_of
from stages.errors import BadInput, RadnerfError
from stages.signing_key import Credentials, algorithm_of, certificates_only, key_only, local_credentials, local_root

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for media made by a trained model, which C2PA and platforms look for."""

NOTICE = "Synthetic media: a neural talking portrait; the person shown did not say this."
"""The sentence that stands in every video's metadata."""

STATEMENT_LABEL = "org.radnerf.statement"
"""Label of the manifest's assertion that holds subject, model and consent."""

_MIMES = {".mov": "video/quicktime"}
_MEMORY_MB = 8
_PIECE_KB = 1024


@dataclass(frozen=True)
class Statement:
    """What the manifest says about a video.

    Attributes:
        subject: Name of the subject.
        model_version: What identifies the trained model.
        consent: The consent note that the subject's maker gave; empty when there is none.
        radnerf_version: Version of this software.
        made_at: When the video was made, with its time zone; to the second.
    """

    subject: str
    model_version: str
    consent: str
    radnerf_version: str
    made_at: dt.datetime


@dataclass(frozen=True)
class Provenance:
    """What a video says about itself, and whether that can be believed.

    Attributes:
        intact: Whether the signature holds and the file is as it was signed.
        signed_here: Whether it was signed with this machine's own key, and is intact.
        synthetic: Whether the manifest declares the video to be made by a trained model.
        subject, model_version, consent: As in ``Statement``; empty when the manifest has none.
        software: Name and version of what made the video.
        made_at: ISO 8601 time that the manifest states; empty when it has none.
        signer: Common name of the signing certificate's holder.
        problems: What validation found, as C2PA status codes with explanations; empty when intact.
    """

    intact: bool
    signed_here: bool
    synthetic: bool
    subject: str
    model_version: str
    consent: str
    software: str
    made_at: str
    signer: str
    problems: tuple[str, ...]


def container_metadata(subject: str, model_version: str, consent: str) -> dict[str, str]:
    """Metadata for the video container, as ffmpeg's ``-metadata key=value`` takes it.

    Args:
        subject: Name of the subject.
        model_version: What identifies the trained model.
        consent: The consent note; may be empty.

    Returns:
        Keys that MP4 players show, on one line each.
    """
    note = consent or "no consent note was given"
    texts = {
        "title": f"Synthetic portrait of {subject}",
        "comment": f"{NOTICE} Made with radnerf {radnerf_version()}, model {model_version}. Consent: {note}",
        "description": NOTICE,
        "keywords": "synthetic,AI-generated,trainedAlgorithmicMedia",
    }
    return {key: " ".join(text.split()) for key, text in texts.items()}


def model_version_of(head: Path, torso: Path) -> str:
    """What identifies a trained model: the beginnings of both files' SHA-256."""
    return "-".join(sha256_of(path)[:12] for path in (head, torso))


def radnerf_version() -> str:
    """The installed version, or ``0+unknown`` in a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("radnerf")
    except PackageNotFoundError:
        return "0+unknown"


def sign_video(path: Path, statement: Statement, credentials: Credentials | None = None) -> None:
    """Put a signed C2PA manifest into an MP4 file, which is replaced whole or not at all. No network is used.

    Args:
        path: The video.
        statement: What the manifest says.
        credentials: Who signs; this machine's own key, made at first use, when None.

    Raises:
        BadInput: The file is no MP4, or the given key or certificate cannot be used.
        RadnerfError: The file cannot be signed or written.
    """
    import c2pa

    _check_mp4(path)
    signer_files = credentials or local_credentials()
    try:
        chain = certificates_only(signer_files.certificates.read_bytes())
        key = signer_files.key.read_bytes()
    except ValueError as error:
        if credentials is None:
            raise RadnerfError(
                f"the signing key in {signer_files.key.parent} is damaged", hint=f"delete {signer_files.key.parent}"
            ) from error
        raise BadInput(f"{signer_files.certificates} holds no certificate", hint="give a PEM chain") from error
    except OSError as error:
        raise BadInput(
            f"{error.filename} cannot be read: {error.strerror}", hint="give a PEM certificate chain and its PEM key"
        ) from error
    algorithm = algorithm_of(key, signer_files.key)
    try:
        signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(algorithm, chain, key_only(key), None))
        with (
            c2pa.Context.from_dict(_sdk_settings("")) as context,
            c2pa.Builder(json.dumps(_manifest(path, statement)), context) as builder,
            atomic_path(path) as temporary,
            path.open("rb") as source,
            temporary.open("w+b") as target,
        ):
            builder.sign(signer, _mime(path), source, target)
    except c2pa.C2paError as error:
        reason = " ".join(str(error).split())
        if credentials:
            raise BadInput(
                f"{credentials.certificates} cannot sign: {reason}",
                hint="give the chain of an end-entity certificate for C2PA, its key beside it",
            ) from error
        raise RadnerfError(
            f"{path} cannot be signed: {reason}", hint="set render.sign to false to go without"
        ) from error


def read_provenance(path: Path) -> Provenance | None:
    """What a video's manifest says, validated. Nothing is fetched, even if the manifest points elsewhere.

    Args:
        path: An MP4 file from anywhere.

    Returns:
        None when the file has no manifest.

    Raises:
        BadInput: The file is missing or no MP4.
    """
    import c2pa

    _check_mp4(path)
    root = local_root()
    try:
        with c2pa.Context.from_dict(_sdk_settings(root.pem if root else "")) as context, path.open("rb") as stream:
            reader = c2pa.Reader.try_create(_mime(path), stream, context=context)
            if reader is None:
                return None
            with reader:
                store: dict[str, Any] = json.loads(reader.json())
    except c2pa.C2paError as error:
        return _unreadable(" ".join(str(error).split()))
    return _summary(store, root.signer_serial if root else 0)


def _mime(path: Path) -> str:
    """The media type by the file's ending; MP4 where that says nothing else."""
    return _MIMES.get(path.suffix.lower(), "video/mp4")


def _check_mp4(path: Path) -> None:
    """Raise unless the file begins as MP4 files do."""
    try:
        with path.open("rb") as stream:
            head = stream.read(12)
    except FileNotFoundError as error:
        raise BadInput(f"there is no file {path}", hint="check the name") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}", hint="give an MP4 video") from error
    if head[4:8] != b"ftyp":
        raise BadInput(f"{path} is no MP4 video", hint="give an MP4 video")


def _sdk_settings(anchors: str) -> dict[str, Any]:
    """Settings of the C2PA SDK: offline, no thumbnails, and only the given PEM roots trusted."""
    settings: dict[str, Any] = {
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
        "builder": {"thumbnail": {"enabled": False}},
        # An hour of video is to need no more memory than a minute: what is larger goes through a temporary file, and
        # the content is hashed in pieces (without the tree, the SDK reads it whole).
        "core": {"backing_store_memory_threshold_in_mb": _MEMORY_MB, "merkle_tree_chunk_size_in_kb": _PIECE_KB},
    }
    if anchors:
        settings["trust"] = {"user_anchors": anchors}
    return settings


def _manifest(path: Path, statement: Statement) -> dict[str, Any]:
    """The manifest's definition, C2PA 2.x: one created action with the digital source type, and our statement."""
    software = {"name": "radnerf", "version": statement.radnerf_version}
    when = statement.made_at.astimezone(dt.UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
    action = {
        "action": "c2pa.created",
        "when": when,
        "softwareAgent": software,
        "digitalSourceType": SOURCE_TYPE,
        "description": NOTICE,
    }
    return {
        "claim_generator_info": [software],
        "format": _mime(path),
        "title": path.name,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
            {"label": STATEMENT_LABEL, "data": asdict(statement) | {"made_at": when, "notice": NOTICE}},
        ],
    }


def _unreadable(reason: str) -> Provenance:
    """A manifest that is there and cannot be parsed."""
    return Provenance(
        intact=False,
        signed_here=False,
        synthetic=False,
        subject="",
        model_version="",
        consent="",
        software="",
        made_at="",
        signer="",
        problems=(reason,),
    )


def _summary(store: dict[str, Any], own_serial: int) -> Provenance:
    """The active manifest of a manifest store, as the SDK gives it in JSON."""
    manifest: dict[str, Any] = store.get("manifests", {}).get(store.get("active_manifest", ""), {})
    data = {item.get("label", ""): item.get("data", {}) for item in manifest.get("assertions", [])}
    statement = data.get(STATEMENT_LABEL, {})
    # Older signers of other software write version 1 of the actions.
    actions = data.get("c2pa.actions.v2", data.get("c2pa.actions", {})).get("actions", [])
    signature = manifest.get("signature_info", {})
    generator: dict[str, Any] = next(iter(manifest.get("claim_generator_info", [])), {})
    results = store.get("validation_results", {}).get("activeManifest", {})
    problems = tuple(
        f"{failure.get('code', '')}: {failure.get('explanation', '')}"
        for failure in results.get("failure", [])
        # Nobody's root but this machine's is trusted here; that says nothing about the file.
        if failure.get("code") != "signingCredential.untrusted"
    )
    state = store.get("validation_state", "")
    intact = state in ("Valid", "Trusted")
    return Provenance(
        intact=intact,
        signed_here=state == "Trusted" and str(own_serial) == str(signature.get("cert_serial_number", "")),
        synthetic=any(action.get("digitalSourceType") == SOURCE_TYPE for action in actions),
        subject=str(statement.get("subject", "")),
        model_version=str(statement.get("model_version", "")),
        consent=str(statement.get("consent", "")),
        software=f"{generator.get('name', '')} {generator.get('version', '')}".strip(),
        made_at=str(statement.get("made_at", "")),
        signer=str(signature.get("common_name", "")),
        problems=problems if intact or problems else (f"the manifest is {state or 'not valid'}",),
    )
