"""The key that signs this machine's videos: made at first use, readable by its owner alone."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stages.errors import BadInput, RadnerfError
from stages.user_folders import data_folder

CERTIFICATES_NAME = "certificates.pem"
KEY_NAME = "key.pem"

_DAYS = 3650
_RENEW_BEFORE = dt.timedelta(days=1)
_ORGANISATION = "radnerf, a key made on the user's own machine"
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class Credentials:
    """Who signs.

    Attributes:
        certificates: PEM chain, the signer's first, with a profile that C2PA accepts.
        key: PEM private key, not encrypted.
    """

    certificates: Path
    key: Path


@dataclass(frozen=True)
class LocalRoot:
    """The root of this machine's own signing key.

    Attributes:
        pem: The root's certificate.
        signer_serial: Serial number of the signing certificate under it.
    """

    pem: str
    signer_serial: int


def signing_folder() -> Path:
    """Where this machine's own key lies: ``$XDG_DATA_HOME/radnerf/signing``."""
    return data_folder() / "signing"


def local_credentials() -> Credentials:
    """This machine's own key and certificates, made now if there are none or they have run out.

    Raises:
        RadnerfError: The folder cannot be written or is damaged.
    """
    folder = signing_folder()
    found = Credentials(folder / CERTIFICATES_NAME, folder / KEY_NAME)
    try:
        if folder.is_dir() and _expires_at(found) - _RENEW_BEFORE < dt.datetime.now(dt.UTC):
            folder.rename(folder.with_name(f"{folder.name}-until-{_expires_at(found):%Y%m%d}"))
        if not folder.is_dir():
            _make(folder)
    except OSError as error:
        raise RadnerfError(
            f"the signing key in {folder} cannot be made: {error.strerror or error}", hint="check the folder's rights"
        ) from error
    return found


def local_root() -> LocalRoot | None:
    """The root under which this machine signs; None when it has not signed yet."""
    path = signing_folder() / CERTIFICATES_NAME
    try:
        signer, root = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return None
    return LocalRoot(root.public_bytes(serialization.Encoding.PEM).decode(), signer.serial_number)


def algorithm_of(key_pem: bytes, path: Path) -> str:
    """C2PA's name of the signature algorithm for a private key.

    Args:
        key_pem: The key.
        path: Where it came from, for the message.

    Raises:
        BadInput: It is no PEM key, is encrypted, or C2PA has no algorithm for it.
    """
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadInput(f"{path} is no usable private key", hint="give an unencrypted PEM key (P-256)") from error
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    raise BadInput(f"{path} is a kind of key that C2PA does not sign with", hint="give a P-256 key")


def given_credentials(key: Path, certificates: Path | None = None) -> Credentials:
    """The user's own key and certificate chain, checked.

    Args:
        key: PEM private key, not encrypted.
        certificates: PEM chain, the signer's first; None when the key's file holds it too.

    Raises:
        BadInput: A file is missing or holds something else, the key is of no use to C2PA or is another one than the
            certificate's, or the certificate has run out.
    """
    found = Credentials(certificates or key, key)
    for path in (found.key, found.certificates):
        if not path.is_file():
            raise BadInput(f"there is no file {path}", hint="give the PEM key and the PEM chain that signs")
    pem = found.key.read_bytes()
    algorithm_of(pem, found.key)
    try:
        signer = x509.load_pem_x509_certificates(found.certificates.read_bytes())[0]
    except ValueError as error:
        raise BadInput(
            f"{found.certificates} holds no certificate", hint="give its PEM chain with --signing-certificates"
        ) from error
    private = serialization.load_pem_private_key(pem, password=None)
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*form) != signer.public_key().public_bytes(*form):
        raise BadInput(
            f"{found.key} is not the key of the first certificate in {found.certificates}",
            hint="put the signer's certificate first",
        )
    if signer.not_valid_after_utc < dt.datetime.now(dt.UTC):
        raise BadInput(f"the certificate in {found.certificates} has run out", hint="give a valid one")
    return found


def certificates_only(pem: bytes) -> bytes:
    """The certificates of a PEM file that may hold a key beside them.

    Raises:
        ValueError: It holds none.
    """
    chain = x509.load_pem_x509_certificates(pem)
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)


def key_only(pem: bytes) -> bytes:
    """The private key of a PEM file that may hold certificates beside it, as PKCS #8.

    Raises:
        ValueError: It holds none that can be read.
    """
    key = serialization.load_pem_private_key(pem, password=None)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _expires_at(credentials: Credentials) -> dt.datetime:
    """When the signer's certificate runs out.

    Raises:
        RadnerfError: The files are missing or damaged.
    """
    try:
        signer = x509.load_pem_x509_certificates(credentials.certificates.read_bytes())[0]
        serialization.load_pem_private_key(credentials.key.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        folder = credentials.key.parent
        raise RadnerfError(f"the signing key in {folder} is damaged", hint=f"delete {folder}") from error
    return signer.not_valid_after_utc


def _make(folder: Path) -> None:
    """Make key and certificates, and let the folder appear whole.

    The root's own key is thrown away once it has signed the signer's certificate, so that it can sign no other.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    part.mkdir(mode=0o700)
    try:
        root_key = ec.generate_private_key(ec.SECP256R1())
        key = ec.generate_private_key(ec.SECP256R1())
        root = _certificate("radnerf local root", "radnerf local root", root_key, root_key, is_root=True)
        signer = _certificate("radnerf local signer", "radnerf local root", key, root_key, is_root=False)
        chain = b"".join(item.public_bytes(serialization.Encoding.PEM) for item in (signer, root))
        key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for name, data in ((CERTIFICATES_NAME, chain), (KEY_NAME, key_pem)):
            descriptor = os.open(part / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
        try:
            part.rename(folder)
        except OSError:
            # Another process was first; its key is as good.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _certificate(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_root: bool,
) -> x509.Certificate:
    """A certificate as C2PA 2.x, section 14.5.1, wants it: the SDK takes no self-signed one as a signer's."""
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=not is_root,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_root,
        crl_sign=is_root,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks differ a little between machines that share a file.
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=0 if is_root else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not is_root:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    """A distinguished name that says nothing about the user."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
