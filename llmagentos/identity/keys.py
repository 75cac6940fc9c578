"""Ed25519 keys (RFC 8032): private ones in files of their owners, public ones as 64 hex digits."""

import stat
from pathlib import Path

from llmagentos.errors import SettingError
from llmagentos.files import write_secret

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )
except ModuleNotFoundError:
    raise SettingError("keys need cryptography: run pip install 'llmagentos[agents]'") from None

PrivateKey = Ed25519PrivateKey
PublicKey = Ed25519PublicKey


def new_key() -> PrivateKey:
    """A key that nobody else has."""
    return Ed25519PrivateKey.generate()


def name_of(key: PrivateKey | PublicKey) -> str:
    """The public key as 64 hex digits; it is no secret."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes_raw().hex()


def key_of(name: str) -> PublicKey:
    """The public key of 64 hex digits; raises ``SettingError`` for anything else."""
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(name))
    except (TypeError, ValueError):
        raise SettingError(
            f"{str(name)[:70]!r} is no public key: it has 64 hex digits, as enrol key prints them"
        ) from None


def is_signed(text: bytes, signature: bytes, key: PublicKey) -> bool:
    """Whether the owner of the key signed the text."""
    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True


def write_key(path: Path, key: PrivateKey) -> None:
    """The key is in a file that only its owner can read, in PEM; no file is ever replaced."""
    body = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        write_secret(path, body)
    except FileExistsError:
        raise SettingError(f"{path} exists; keep that key, or name another file") from None
    except OSError as error:
        raise SettingError(f"{path} cannot be written: {error.strerror}") from None


def read_key(path: Path) -> PrivateKey:
    """The key in a file; ``SettingError`` where there is none, or where others could read it."""
    try:
        mode, body = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise SettingError(
            f"key {path}: {error.strerror}; make one with python -m llmagentos.recipes.enrol key"
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingError(f"key {path} can be read by others; run chmod 600 {path}")
    try:
        key = load_pem_private_key(body, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingError(f"key {path} holds no Ed25519 key in PEM; put the right file there")
    return key
