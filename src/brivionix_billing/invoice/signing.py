"""Seals a document with its hash and, if a key is given, an Ed25519 signature.

The signature covers the same canonical bytes as the hash. The id of the key is the first 16 hexadecimal digits of
SHA-256 of the raw public key. It is part of the hashed bytes, so a removed signature is detected.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from brivionix_billing.canonical_json import canonical_json, sha256
from brivionix_billing.errors import BillingError, missing_extra, safe_repr
from brivionix_billing.files import read_bounded

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = [
    "SignatureState",
    "check_signature",
    "document_hash",
    "key_id",
    "load_private_key",
    "load_public_key",
    "seal",
]

_MAX_KEY_BYTES: Final = 64 * 1024


class SignatureState(StrEnum):
    """What is known about the signature of a document. The values are the words of reports."""

    VALID = "signed, signature valid for the given key"
    UNCHECKED = "signed, key not checked"
    UNSIGNED = "not signed"
    INVALID = "signature not valid"


def _signed_bytes(document: Mapping[str, Any]) -> bytes:
    return canonical_json({key: value for key, value in document.items() if key not in ("hash", "signature")})


def document_hash(document: Mapping[str, Any]) -> str:
    """Return the hash of a document's content."""
    return "sha256:" + sha256(_signed_bytes(document)).hex()


def seal(document: Mapping[str, Any], key: Ed25519PrivateKey | None = None) -> dict[str, Any]:
    """Return the document with its hash and, if a key is given, its signature.

    ``signing_key`` of the document must be the id of the key. Raises ``invalid_key`` otherwise.
    """
    expected = None if key is None else key_id(key.public_key())
    if document["signing_key"] != expected:
        raise BillingError(
            "invalid_key",
            f"the document has signing_key {document['signing_key']}, but the key is {expected}; set signing_key first",
        )
    sealed = {**document, "hash": document_hash(document)}
    if key is not None:
        sealed["signature"] = base64.b64encode(key.sign(_signed_bytes(document))).decode()
    return sealed


def check_signature(
    document: Mapping[str, Any], key: Ed25519PublicKey | None = None
) -> tuple[SignatureState, str | None]:
    """Check the signature of a document with the issuer's public key. Returns the state, and the error or ``None``.

    With a key, every state but ``VALID`` has an error. Without one, a document without a signature has an error only if
    it names a signing key.
    """
    if document.get("signing_key") is None:
        if "signature" in document:
            return SignatureState.INVALID, "unexpected, because the document names no signing key"
        return SignatureState.UNSIGNED, None if key is None else "the document is not signed"
    if not document.get("signature"):
        return (
            SignatureState.UNSIGNED,
            f"missing; the document names signing key {safe_repr(document['signing_key'])}",
        )
    if key is None:
        return SignatureState.UNCHECKED, None
    error = _signature_error(document, key)
    return SignatureState.VALID if error is None else SignatureState.INVALID, error


def _signature_error(document: Mapping[str, Any], key: Ed25519PublicKey) -> str | None:
    from cryptography.exceptions import InvalidSignature

    if document.get("signing_key") != key_id(key):
        return f"signed by key {safe_repr(document.get('signing_key'))}, but the given key is {key_id(key)}"
    try:
        signature = base64.b64decode(document.get("signature") or "", validate=True)
        if base64.b64encode(signature).decode() != document.get("signature"):
            return "the signature is not in canonical base64"
        key.verify(signature, _signed_bytes(document))
    except (InvalidSignature, binascii.Error, TypeError, ValueError, BillingError):
        return "the signature does not match the document"
    return None


def key_id(key: Ed25519PublicKey) -> str:
    """Return the id of a public key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hex()[:16]


def load_private_key(path: str | Path) -> Ed25519PrivateKey:
    """Read an Ed25519 private key from a PEM file without a password.

    Raises ``file_unreadable``, ``invalid_key`` or ``missing_extra``.
    """
    ed25519, serialization = _cryptography()
    try:
        key = serialization.load_pem_private_key(_read_key(path), None)
    except (ValueError, TypeError):
        raise BillingError(
            "invalid_key",
            f"{path}: not a PEM private key without a password; create one with: openssl genpkey -algorithm ed25519",
        ) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise BillingError(
            "invalid_key", f"{path}: not an Ed25519 key; create one with: openssl genpkey -algorithm ed25519"
        )
    return cast("Ed25519PrivateKey", key)


def load_public_key(path: str | Path) -> Ed25519PublicKey:
    """Read an Ed25519 public key from a PEM file. Raises ``file_unreadable``, ``invalid_key`` or ``missing_extra``."""
    ed25519, serialization = _cryptography()
    try:
        key = serialization.load_pem_public_key(_read_key(path))
    except (ValueError, TypeError):
        raise BillingError(
            "invalid_key", f"{path}: not a PEM public key; make it of the private key with: openssl pkey -pubout"
        ) from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise BillingError("invalid_key", f"{path}: not an Ed25519 public key")
    return cast("Ed25519PublicKey", key)


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise missing_extra("a signature", "sign") from None
    return ed25519, serialization


def _read_key(path: str | Path) -> bytes:
    return read_bounded(path, _MAX_KEY_BYTES, "the key", too_large="invalid_key")
