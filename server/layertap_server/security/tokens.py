"""Access tokens and their roles, from a YAML file that is reloaded when it changes.

    search-team:  {sha256: 9f86d081884c7d65…, roles: [extract]}
    deploy-bot:   {token: "…", roles: [extract, control]}

The name of an entry appears in error messages. The server keeps only the SHA-256 of a token, and the file may give
the SHA-256 instead of the token. An unsalted hash protects random tokens; do not use passwords as tokens.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from layertap_server.config.yaml_document import ManifestError, Section, read_document

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
"""Minimum interval between checks of the file for changes, in seconds."""
Stamp: TypeAlias = tuple[int, int, int]
"""Modification time in nanoseconds, inode and size in bytes of a file."""
MIN_TOKEN_CHARACTERS = 16
"""Minimum characters of a token; shorter tokens could be guessed."""


class Role(StrEnum):
    """A set of methods that a token permits."""

    EXTRACT = "extract"
    """All methods that do not change which models are loaded."""
    CONTROL = "control"
    """Loading and unloading models."""
    WEIGHTS = "weights"
    """Reading the parameters of models."""


class TokensError(Exception):
    """An unusable tokens file; the message gives the line and the reason."""


@dataclass(frozen=True, slots=True)
class Holder:
    """An entry of the tokens file."""

    name: str
    """Name of the entry."""
    digest: bytes
    """SHA-256 of the token."""
    roles: frozenset[Role]
    """Roles that the token permits."""


class Tokens:
    """The entries of a tokens file; safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            TokensError: the file cannot be read or an entry is invalid.
        """
        self._path = path
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._state: Stamp | str = self._stamp()
        self._holders = _read(path)
        self.is_stale = False
        """Whether the file has become unusable, so that its former tokens remain valid."""

    def find_holder(self, token: str) -> Holder | None:
        """Return the entry of a token, or None for an unknown token.

        The look-up uses the token's digest, so that its duration reveals nothing about partly guessed tokens.
        """
        return self._current().get(hashlib.sha256(token.encode(errors="surrogatepass")).digest())

    def _current(self) -> Mapping[bytes, Holder]:
        """Return the entries by digest, after checking the file for changes if that is due."""
        with self._lock:
            if time.monotonic() - self._looked >= CHECK_SECONDS:
                self._looked = time.monotonic()
                self._refresh()
            return self._holders

    def _refresh(self) -> None:
        """Read the file again if it has changed; log an unusable file once per change."""
        try:
            state: Stamp | str = self._stamp()
        except TokensError as error:
            state = str(error)
        if state == self._state:
            return
        self._state = state
        try:
            self._holders = _read(self._path)
        except TokensError as error:
            self.is_stale = True
            log.warning("the tokens file cannot be used, the former tokens remain valid: %s", error)
        else:
            self.is_stale = False
            log.info("the tokens file has changed; it has %d tokens", len(self._holders))

    def _stamp(self) -> Stamp:
        """Return the file's stamp, which changes when the file does."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise TokensError(f"{self._path}: {error.strerror}") from error
        return status.st_mtime_ns, status.st_ino, status.st_size


def _read(path: Path) -> Mapping[bytes, Holder]:
    """Read the entries of a file, by digest."""
    try:
        document = read_document(path, secret=True)
        holders = [_read_holder(document, name) for name in document.values]
    except ManifestError as error:
        raise TokensError(str(error)) from error
    if not holders:
        raise TokensError(f"{path.name}: expected at least one token, the file has none")
    return {holder.digest: holder for holder in reversed(holders)}  # the first of two entries with the same token wins


def _read_holder(document: Section, name: str) -> Holder:
    """Read one entry."""
    section = document.section(name)
    if section is None:
        raise document.error(name, "an entry needs a token or its sha256, and roles")
    section.check_keys("token", "sha256", "roles")
    token, sha256 = section.text("token"), section.text("sha256")
    if bool(token) == bool(sha256):
        raise document.error(name, "an entry needs either a token or its sha256")
    if token and len(token) < MIN_TOKEN_CHARACTERS:
        raise section.error(
            "token", f"a token needs at least {MIN_TOKEN_CHARACTERS} characters; create one with: openssl rand -hex 32"
        )
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise section.error("sha256", "a sha256 must have 64 characters of 0-9 and a-f")
    roles = section.texts("roles")
    if not roles or not set(roles) <= set(Role):
        raise section.error("roles", f"roles must be one or both of {', '.join(Role)}")
    digest = bytes.fromhex(sha256) if sha256 else hashlib.sha256(token.encode()).digest()
    return Holder(name, digest, frozenset(Role(role) for role in roles))
