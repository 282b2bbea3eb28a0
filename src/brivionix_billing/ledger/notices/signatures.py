"""RSA signatures and encryption of WeChat Pay and Alipay, which have no library of their own for Python here."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.notices.notice import invalid_notice_error

__all__ = ["decrypt_aes_gcm", "verify_rsa_sha256"]


def _cryptography() -> Any:
    try:
        from cryptography import exceptions, x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise BillingError(
            "missing_extra",
            "verifying a notice requires cryptography, which is not installed: "
            "pip install 'brivionix-billing[payments]'",
        ) from None
    return exceptions, x509, hashes, serialization, padding, rsa, AESGCM


def _load_key(pem: bytes | str) -> Any:
    """Load the public key of a PEM file: a key or a certificate. Raises ``invalid_argument``."""
    _, x509, _, serialization, _, rsa, _ = _cryptography()
    data = pem.encode() if isinstance(pem, str) else pem
    try:
        if b"CERTIFICATE" in data:
            key = x509.load_pem_x509_certificate(data).public_key()
        else:
            key = serialization.load_pem_public_key(data)
    except ValueError:
        key = None
    if not isinstance(key, rsa.RSAPublicKey):
        raise BillingError("invalid_argument", "the public key of the provider is not an RSA key in PEM format")
    return key


def verify_rsa_sha256(provider: str, pem: bytes | str, signature: str, message: bytes) -> None:
    """Verify a signature in Base64, RSASSA-PKCS1-v1_5 with SHA-256. Raises ``invalid_notice``."""
    exceptions, _, hashes, _, padding, _, _ = _cryptography()
    key = _load_key(pem)
    try:
        key.verify(base64.b64decode(signature, validate=True), message, padding.PKCS1v15(), hashes.SHA256())
    except (exceptions.InvalidSignature, binascii.Error, ValueError, TypeError):
        raise invalid_notice_error(provider, "the signature is invalid; check the public key") from None


def decrypt_aes_gcm(provider: str, key: bytes, nonce: str, ciphertext: str, associated_data: str) -> bytes:
    """Decrypt a text in Base64, AES-256-GCM. Raises ``invalid_notice``."""
    exceptions, *_, aes_gcm = _cryptography()
    try:
        data = base64.b64decode(ciphertext, validate=True)
        decrypted: bytes = aes_gcm(key).decrypt(nonce.encode(), data, associated_data.encode())
        return decrypted
    except (exceptions.InvalidTag, binascii.Error, ValueError, TypeError):
        raise invalid_notice_error(provider, "it cannot be decrypted; check the APIv3 key") from None
