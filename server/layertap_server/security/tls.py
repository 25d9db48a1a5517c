"""The server's certificate, read again when its files change: a rotated one is used from the next connection on."""

from __future__ import annotations

import logging
import ssl
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

log = logging.getLogger(__name__)


class TlsError(Exception):
    """The files cannot be used; the message says which and why."""


@dataclass
class Certificates:
    """PEM files: the server's chain and key, and for mTLS the authorities whose clients are let in."""

    chain: Path
    key: Path
    client_authorities: Path | None = None
    _state: tuple[object, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that follow the files.

        Raises:
            TlsError: a file cannot be read, or holds no certificate or key, or the key is another's.
        """
        try:
            self._state = self._stamp()
            first = self._read()
        except OSError as error:
            raise TlsError(f"{error.filename}: {error.strerror}") from error
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._renewed,  # type: ignore[arg-type]  # None means no change
            require_client_authentication=self.client_authorities is not None,
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """gRPC asks at every new connection; None keeps what it has."""
        with self._lock:
            try:
                if (state := self._stamp()) == self._state:
                    return None
                renewed = self._read()
            except (OSError, TlsError) as error:  # half written, perhaps: the old one serves until it can be read
                log.warning("the certificate files cannot be used, the old ones serve on: %s", error)
                return None
            self._state = state
            log.info("the certificate files have changed and are used from now on")
            return renewed

    @property
    def _files(self) -> Sequence[Path]:
        return [path for path in (self.chain, self.key, self.client_authorities) if path is not None]

    def _stamp(self) -> tuple[object, ...]:
        return tuple((status.st_mtime_ns, status.st_ino, status.st_size) for status in map(Path.stat, self._files))

    def _read(self) -> grpc.ServerCertificateConfiguration:
        """What the files hold, checked: gRPC takes anything, and then no connection comes about."""
        chain, key = _pem(self.chain, b"CERTIFICATE"), _pem(self.key, b"PRIVATE KEY")
        self._check_pair(chain, key)
        if self.client_authorities is None:
            return grpc.ssl_server_certificate_configuration([(key, chain)])
        roots = _pem(self.client_authorities, b"CERTIFICATE")
        try:
            # Between certificates names may stand, in any script.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=roots.decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(f"{self.client_authorities} cannot be read as certificates: {_why(error)}") from error
        return grpc.ssl_server_certificate_configuration([(key, chain)], roots)

    def _check_pair(self, chain: bytes, key: bytes) -> None:
        """Raises `TlsError`. OpenSSL reads files alone, and those that are named may change meanwhile."""
        with tempfile.TemporaryDirectory() as folder:  # which nobody else may enter
            pair = Path(folder) / "pair.pem"
            pair.touch(mode=0o600)
            pair.write_bytes(key + b"\n" + chain)
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pair, password=_no_password)
            except (ssl.SSLError, ValueError) as error:
                message = f"{self.chain} and {self.key} cannot be used as a certificate and its key: {_why(error)}"
                raise TlsError(message) from error


def _no_password() -> str:
    """OpenSSL would ask at the terminal."""
    raise ValueError("the key has a password; write it without: openssl pkey -in KEY -out NEW")


def _why(error: ssl.SSLError | ValueError) -> str:
    reason = getattr(error, "reason", None)  # such as KEY_VALUES_MISMATCH
    return reason.lower().replace("_", " ") if reason else str(error)


def _pem(path: Path, kind: bytes) -> bytes:
    data = path.read_bytes()
    if b"-----BEGIN " not in data or kind + b"-----" not in data:
        raise TlsError(f"{path} holds no {kind.decode().lower()} in PEM")
    return data
