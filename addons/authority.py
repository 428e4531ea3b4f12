"""The certificate authority of the forward door: made once, kept closed, able to speak for the providers and nobody else.

Its certificate names the hosts it may vouch for (name constraints), so that whoever trusts it trusts it with these
alone, even if its key were lost. mitmproxy finds key and certificate under the name that it expects.
"""

import contextlib
import fcntl
import ipaddress
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from config.settings import Settings, SettingsError

# Where clients believe a provider to be, and what stands before `/v1` there.
OWN_PLACES = {"anthropic": ("api.anthropic.com", ""), "openai": ("api.openai.com", ""), "openrouter": ("openrouter.ai", "/api")}
KEY_FILE = "mitmproxy-ca.pem"  # key and certificate, as mitmproxy reads them
DH_FILE = "mitmproxy-dhparam.pem"
ORGANIZATION = "Level5"
VALID_DAYS = 3650
CLOCK_SKEW = timedelta(days=1)
_ALL_ADDRESSES = ("0.0.0.0/0", "::/0")


class AuthorityError(SettingsError):
    """The authority cannot be made or used; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """An authority on disk. `hosts` are those that its certificate allows it to speak for."""

    folder: Path
    hosts: frozenset[str]
    expires_at: datetime

    def cannot_vouch_for(self, hosts: Iterable[str]) -> list[str]:
        """Return those hosts that its certificate does not cover."""
        return [host for host in hosts if not any(host == known or host.endswith(f".{known}") for known in self.hosts)]


def spoken_hosts(settings: Settings) -> tuple[str, ...]:
    """Return the hosts that the forward door speaks for: the providers' own, and those of the configured addresses."""
    configured = (urlsplit(getattr(settings.providers, name).base_url).hostname or "" for name in OWN_PLACES)
    return tuple(dict.fromkeys((*(host for host, _ in OWN_PLACES.values()), *configured)))


def ensure_authority(settings: Settings) -> Authority:
    """Return the appliance's authority, made now if there is none. Several processes may ask at once.

    An authority that exists is never replaced, whatever the settings say now: clients trust it.

    Raises:
        AuthorityError: the folder cannot be written or read, or what lies there is no authority of ours.
    """
    try:
        folder = settings.authority_folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        with _locked(folder):
            if not (folder / KEY_FILE).exists():
                _make(settings)
            return read_authority(folder)
    except OSError as error:
        raise AuthorityError(f"cannot keep a certificate authority in {settings.authority_folder}: {error.strerror or error}") from error


def read_authority(folder: Path) -> Authority:
    """Return the authority in `folder`.

    Raises:
        AuthorityError: there is none, others may read its key, or it is not one of ours.
    """
    path = folder / KEY_FILE
    try:
        body = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise AuthorityError(f"{path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise AuthorityError(f"{path} holds a secret key and others may read it: chmod 600 {path}")
    try:
        certificate = x509.load_pem_x509_certificate(body)
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        key = serialization.load_pem_private_key(body, None)
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise AuthorityError(f"{path} is no authority of ours: {error}; remove {folder} to have a new one made") from error
    if key.public_key() != certificate.public_key():
        raise AuthorityError(f"key and certificate in {path} do not belong together; remove {folder} to have new ones made")
    return Authority(folder=folder, hosts=_permitted(constraints), expires_at=certificate.not_valid_after_utc)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder: the kernel lets go of it however this process ends."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make(settings: Settings) -> None:
    from mitmproxy.certs import DEFAULT_DHPARAM  # once in the life of an appliance, and slow to load for commands

    folder, hosts = settings.authority_folder, spoken_hosts(settings)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(key, hosts).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(folder / DH_FILE, DEFAULT_DHPARAM, mode=0o644)
    _write(settings.certificate_file, certificate, mode=0o644)
    _write(folder / KEY_FILE, secret + certificate, mode=0o600)  # last: where it is, everything is


def _write(path: Path, body: bytes, *, mode: int) -> None:
    """Write a file so that it is there whole or not at all, and never open to others for a moment."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(handle)
    temporary.replace(path)


def _certificate(key: ec.EllipticCurvePrivateKey, hosts: Sequence[str]) -> x509.Certificate:
    now = datetime.now(UTC)
    # A serial in the name keeps two appliances apart in a list of trusted authorities.
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Level5 forward proxy {secrets.token_hex(4)}"),
        ]
    )
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only", "digital_signature"), False
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_constraints(hosts), critical=True)
        .sign(key, hashes.SHA256())
    )


def _constraints(hosts: Sequence[str]) -> x509.NameConstraints:
    """Return what the certificate may vouch for: these hosts; addresses only where a host is one."""
    permitted: list[x509.GeneralName] = []
    excluded: list[x509.GeneralName] = []
    versions = set[int]()
    for host in dict.fromkeys(hosts):
        try:
            address = ipaddress.ip_network(host)
        except ValueError:
            permitted.append(x509.DNSName(host))
        else:
            permitted.append(x509.IPAddress(address))
            versions.add(address.version)
    if not versions:
        excluded = [x509.IPAddress(ipaddress.ip_network(everything)) for everything in _ALL_ADDRESSES]
    return x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=excluded or None)


def _permitted(constraints: x509.NameConstraints) -> frozenset[str]:
    return frozenset(str(getattr(name.value, "network_address", name.value)) for name in constraints.permitted_subtrees or ())
