"""The key of the pseudonyms: where it comes from, and how a build knows it without holding it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from storage.errors import RecipeError

_LEAST_BYTES = 16
_FINGERPRINTED = b"Athanor: fingerprint of a key of pseudonyms"


def read_key(variable: str, file: str | None, folder: Path) -> bytes:
    """The key, from a file (relative to ``folder``) or from an environment variable.

    Raises RecipeError where there is none, or where it is short enough to be guessed.
    """
    if file is not None:
        place = f"the file {file}"
        try:
            key = (folder / file).read_bytes().strip()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise RecipeError(f"scrub_pii.key_file: {file} cannot be read ({reason}); pseudonyms need a key") from error
    else:
        place = f"the environment variable {variable}"
        key = os.environb.get(variable.encode(), b"").strip()
    if len(key) < _LEAST_BYTES:
        found = f"{len(key)} bytes" if key else "nothing"
        raise RecipeError(
            f"scrub_pii: pseudonyms need a secret key of at least {_LEAST_BYTES} bytes, but {place} holds {found}; "
            "make one with: openssl rand -hex 32"
        )
    return key


def fingerprint(key: bytes) -> str:
    """Tells keys apart, and is no help in finding one: scrypt (RFC 7914) of a constant, 64 bits in hexadecimal.

    Slow on purpose (about 50 ms), so that not even a weak key can be looked for among many.
    """
    return hashlib.scrypt(key, salt=_FINGERPRINTED, n=2**14, r=8, p=1, dklen=8).hex()
