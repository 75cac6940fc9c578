"""Keys and certificates for a try-out on one machine, and an agent's key for anywhere."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from llmagentos.files import write_durably, write_secret
from llmagentos.settings.checks import require

FILES = ("ca.pem", "server.pem", "server.key")
VALID = timedelta(days=365)


def make_certificates(folder: Path, hosts: Sequence[str]) -> None:
    """``ca.pem``, and ``server.pem`` with ``server.key`` for the hosts; those there are kept.

    The authority's own key is forgotten at once, so it can vouch for nobody else.
    Raises ``SettingError`` where only some of them are there.
    """
    if all((folder / name).exists() for name in FILES):
        return
    there = [name for name in FILES if (folder / name).exists()]
    remedy = f"has {' and '.join(there)} alone; move them away first, or name another folder"
    require(not there, "folder", str(folder), remedy)
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = _name("llmagentos authority")
    ca = _certificate(issuer, issuer, authority, authority, x509.BasicConstraints(True, 0))
    names = x509.SubjectAlternativeName([_host(host) for host in hosts])
    signed = _certificate(_name(hosts[0]), issuer, server, authority, names)
    write_secret(folder / "server.key", _pem(server))
    write_durably(folder / "server.pem", signed)
    write_durably(folder / "ca.pem", ca)


def make_node_key(path: Path) -> Path:
    """The agent's private key at ``path``, made unless it is there; the public half's path.

    A P-384 key in OpenSSH's form, as a SuperNode proves itself with.
    Raises ``SettingError`` where the file is there and holds anything else.
    """
    public = path.with_name(f"{path.name}.pub")
    if not path.exists():
        secret = serialization.PrivateFormat.OpenSSH
        write_secret(path, _pem(ec.generate_private_key(ec.SECP384R1()), secret))
    form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    write_durably(public, _node_key(path).public_key().public_bytes(*form))
    return public


def _node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    ours = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1)
    require(ours, "file", str(path), "is there and no node's key; name another file")
    return cast("ec.EllipticCurvePrivateKey", key)


def _pem(
    key: ec.EllipticCurvePrivateKey,
    form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
) -> bytes:
    body: bytes = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return body


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> bytes:
    start = datetime.now(UTC) - timedelta(minutes=5)
    made = x509.CertificateBuilder(issuer, subject, key.public_key())
    made = made.serial_number(x509.random_serial_number())
    made = made.not_valid_before(start).not_valid_after(start + VALID)
    made = made.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    body: bytes = made.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return body


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
