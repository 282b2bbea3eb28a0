"""Sealing a document: its hash, and where wanted an Ed25519 signature over it.

The signature is over the same canonical bytes as the hash. The key's id, the first 16 hex digits of SHA-256 over the
raw public key, stands inside the hashed part, so a signature cannot be taken away unnoticed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from brivionix_billing.canonical_json import canonical_json, sha256
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import read_bounded

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["document_hash", "key_id", "load_private_key", "load_public_key", "seal", "signature_error"]

_MAX_KEY_BYTES: Final = 64 * 1024


def _signed_bytes(document: Mapping[str, Any]) -> bytes:
    return canonical_json({key: value for key, value in document.items() if key not in ("hash", "signature")})


def document_hash(document: Mapping[str, Any]) -> str:
    """The hash that a document must carry."""
    return "sha256:" + sha256(_signed_bytes(document)).hex()


def seal(document: Mapping[str, Any], key: Ed25519PrivateKey | None = None) -> dict[str, Any]:
    """The document with its hash and, with a key, its signature. ``signing_key`` must name that key already."""
    expected = None if key is None else key_id(key.public_key())
    if document["signing_key"] != expected:
        raise BillingError("invalid_key", f"the document names signing key {document['signing_key']}, not {expected}")
    sealed = {**document, "hash": document_hash(document)}
    if key is not None:
        sealed["signature"] = base64.b64encode(key.sign(_signed_bytes(document))).decode()
    return sealed


def signature_error(document: Mapping[str, Any], key: Ed25519PublicKey) -> str | None:
    """What is wrong with the signature, or ``None``."""
    from cryptography.exceptions import InvalidSignature

    if document.get("signing_key") != key_id(key):
        return f"signed by key {safe_repr(document.get('signing_key'))}, but the key given is {key_id(key)}"
    try:
        signature = base64.b64decode(document.get("signature") or "", validate=True)
        if base64.b64encode(signature).decode() != document.get("signature"):
            return "the signature is not in its canonical form"
        key.verify(signature, _signed_bytes(document))
    except (InvalidSignature, binascii.Error, TypeError, ValueError):
        return "the signature does not fit the document"
    return None


def key_id(key: Ed25519PublicKey) -> str:
    """The id of a public key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hex()[:16]


def load_private_key(path: str | Path) -> Ed25519PrivateKey:
    """An Ed25519 private key from a PEM file without a password. Raises ``invalid_key`` or ``missing_extra``."""
    ed25519, serialization = _cryptography()
    try:
        key = serialization.load_pem_private_key(_read_key(path), None)
    except (ValueError, TypeError) as error:
        raise BillingError("invalid_key", f"{path}: not a PEM private key without a password: {error}") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise BillingError("invalid_key", f"{path}: not an Ed25519 key; make one: openssl genpkey -algorithm ed25519")
    return cast("Ed25519PrivateKey", key)


def load_public_key(path: str | Path) -> Ed25519PublicKey:
    """An Ed25519 public key from a PEM file. Raises ``invalid_key`` or ``missing_extra``."""
    ed25519, serialization = _cryptography()
    try:
        key = serialization.load_pem_public_key(_read_key(path))
    except (ValueError, TypeError) as error:
        raise BillingError("invalid_key", f"{path}: not a PEM public key: {error}") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise BillingError("invalid_key", f"{path}: not an Ed25519 public key")
    return cast("Ed25519PublicKey", key)


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise BillingError(
            "missing_extra",
            "signatures need an extra: pip install 'brivionix-billing[sign]', or in a clone: pip install -e '.[sign]'",
        ) from None
    return ed25519, serialization


def _read_key(path: str | Path) -> bytes:
    return read_bounded(path, _MAX_KEY_BYTES, "the key", too_large="invalid_key")
