"""The server's TLS certificate. It is reloaded when its files change and then used for new connections."""

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
    """Unusable TLS files; the message names the file and the reason."""


@dataclass
class Certificates:
    """PEM files of a server: its certificate chain and key, and for mTLS the accepted certificate authorities."""

    chain: Path
    """File of the server's certificate chain."""
    key: Path
    """File of the private key."""
    client_authorities: Path | None = None
    """File of the authorities whose client certificates are accepted; None if clients need no certificate."""
    _state: tuple[object, ...] = ()
    """File stamps at the last reading."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that reload the files when they change.

        Raises:
            TlsError: a file cannot be read, or has no certificate or key, or the key does not match the certificate.
        """
        try:
            self._state = self._stamp()
            first = self._read()
        except OSError as error:
            raise TlsError(f"{error.filename}: {error.strerror}") from error
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._reload,  # type: ignore[arg-type]  # None is permitted and means no change
            require_client_authentication=self.client_authorities is not None,
        )

    def _reload(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new configuration if the files have changed, else None; gRPC calls this for each connection."""
        with self._lock:
            try:
                if (state := self._stamp()) == self._state:
                    return None
                renewed = self._read()
            except (OSError, TlsError) as error:  # perhaps half written: keep the old certificate meanwhile
                log.warning("the new certificate files cannot be used, the old certificate stays in use: %s", error)
                return None
            self._state = state
            log.info("the certificate files have changed; new connections use the new certificate")
            return renewed

    @property
    def _files(self) -> Sequence[Path]:
        """Paths of all given files."""
        return [path for path in (self.chain, self.key, self.client_authorities) if path is not None]

    def _stamp(self) -> tuple[object, ...]:
        """Return modification time, inode and size of each file, which change when a file does."""
        return tuple((status.st_mtime_ns, status.st_ino, status.st_size) for status in map(Path.stat, self._files))

    def _read(self) -> grpc.ServerCertificateConfiguration:
        """Read and check the files: gRPC accepts invalid ones without an error, and then every connection fails."""
        chain, key = _read_pem(self.chain, b"CERTIFICATE"), _read_pem(self.key, b"PRIVATE KEY")
        self._check_pair(chain, key)
        if self.client_authorities is None:
            return grpc.ssl_server_certificate_configuration([(key, chain)])
        roots = _read_pem(self.client_authorities, b"CERTIFICATE")
        try:
            # Comments between the certificates may be in any script; they are not needed.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=roots.decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(f"{self.client_authorities} cannot be read as certificates: {_reason(error)}") from error
        return grpc.ssl_server_certificate_configuration([(key, chain)], roots)

    def _check_pair(self, chain: bytes, key: bytes) -> None:
        """Raise `TlsError` if the key does not match the certificate.

        OpenSSL reads certificates only from files. The check uses a private copy, since the given files may change
        between the reading and the check.
        """
        with tempfile.TemporaryDirectory() as folder:  # accessible only to this user
            pair = Path(folder) / "pair.pem"
            pair.touch(mode=0o600)
            pair.write_bytes(key + b"\n" + chain)
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pair, password=_refuse_password)
            except (ssl.SSLError, ValueError) as error:
                message = f"{self.chain} and {self.key} cannot be used as a certificate and its key: {_reason(error)}"
                raise TlsError(message) from error


def _refuse_password() -> str:
    """Refuse a key with a password; without this callback OpenSSL would prompt at the terminal."""
    raise ValueError("the key has a password; remove it with: openssl pkey -in KEY -out NEW")


def _reason(error: ssl.SSLError | ValueError) -> str:
    """Return the reason of an OpenSSL error in lower case, or the message of another error."""
    reason = getattr(error, "reason", None)  # such as KEY_VALUES_MISMATCH
    return reason.lower().replace("_", " ") if reason else str(error)


def _read_pem(path: Path, kind: bytes) -> bytes:
    """Read a PEM file, which must have a section of this kind."""
    data = path.read_bytes()
    if b"-----BEGIN " not in data or kind + b"-----" not in data:
        raise TlsError(f"{path} has no {kind.decode().lower()} in PEM format")
    return data
