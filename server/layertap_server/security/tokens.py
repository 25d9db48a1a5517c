"""Who may do what: a file of tokens with roles, read again when it changes.

    search-team:  {sha256: 9f86d081884c7d65…, roles: [extract]}
    deploy-bot:   {token: "…", roles: [extract, control]}

A name is for the log. What is kept of a token is its SHA-256, which the file may hold in its place; that is enough for
random tokens, and no secret that a person made up should be one.
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

LOOK_AGAIN_SECONDS = 1.0
Stamp: TypeAlias = tuple[int, int, int]
"""When a file was changed, which file it is, and its bytes."""
SHORTEST = 16
"""Characters of a token: fewer can be guessed."""


class Role(StrEnum):
    """What a token allows."""

    EXTRACT = "extract"
    """Everything that changes nothing."""
    CONTROL = "control"
    """Loading and unloading models."""


class TokensError(Exception):
    """The file cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whoever has a token."""

    name: str
    digest: bytes
    roles: frozenset[Role]


class Tokens:
    """The holders of a file; any thread may ask."""

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            TokensError: it cannot be read, or an entry is wrong.
        """
        self._path = path
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._state: Stamp | str = self._stamp()
        self._holders = _read(path)
        self.is_stale = False
        """Whether the file cannot be read as it is now, so that the tokens from before count."""

    def holder(self, token: str) -> Holder | None:
        """Return whose token it is; None where nobody's.

        It is found by its digest, so the time tells nothing of how much of a token was guessed.
        """
        return self._current().get(hashlib.sha256(token.encode(errors="surrogatepass")).digest())

    def _current(self) -> Mapping[bytes, Holder]:
        with self._lock:
            if time.monotonic() - self._looked >= LOOK_AGAIN_SECONDS:
                self._looked = time.monotonic()
                self._refresh()
            return self._holders

    def _refresh(self) -> None:
        """Read the file where it has changed; one that cannot be read is reported once for each change."""
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
            log.warning("the tokens cannot be read, the old ones count: %s", error)
        else:
            self.is_stale = False
            log.info("the tokens have changed: %d are known", len(self._holders))

    def _stamp(self) -> Stamp:
        try:
            status = self._path.stat()
        except OSError as error:
            raise TokensError(f"{self._path}: {error.strerror}") from error
        return status.st_mtime_ns, status.st_ino, status.st_size


def _read(path: Path) -> Mapping[bytes, Holder]:
    try:
        document = read_document(path, secret=True)
        holders = [_holder(document, name) for name in document.values]
    except ManifestError as error:
        raise TokensError(str(error)) from error
    if not holders:
        raise TokensError(f"{path.name}: it holds no token, so nobody could call")
    return {holder.digest: holder for holder in reversed(holders)}  # of two with one token the first counts


def _holder(document: Section, name: str) -> Holder:
    section = document.section(name)
    if section is None:
        raise document.error(name, "an entry says its token or sha256, and its roles")
    section.known("token", "sha256", "roles")
    token, sha256 = section.text("token"), section.text("sha256")
    if bool(token) == bool(sha256):
        raise document.error(name, "an entry has either a token or its sha256")
    if token and len(token) < SHORTEST:
        raise section.error("token", f"a token has at least {SHORTEST} characters; make one with: openssl rand -hex 32")
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise section.error("sha256", "a SHA-256 is 64 characters of 0-9 and a-f")
    roles = section.texts("roles")
    if not roles or not set(roles) <= set(Role):
        raise section.error("roles", f"roles are one or both of {', '.join(Role)}")
    digest = bytes.fromhex(sha256) if sha256 else hashlib.sha256(token.encode()).digest()
    return Holder(name, digest, frozenset(Role(role) for role in roles))
