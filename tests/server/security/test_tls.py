"""Tests of the certificate files: which are refused before gRPC uses them, and when a rotation takes effect."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import trustme

from layertap_server.security.tls import Certificates, TlsError

GARBAGE = "-----BEGIN {0}-----\nbm9uZQ==\n-----END {0}-----\n"


def write_certificates(folder: Path, name: str = "server") -> Certificates:
    """Write a certificate, its key and its authority, and return the three files."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    paths = [folder / f"{name}-{part}.pem" for part in ("chain", "key", "roots")]
    blobs = (issued.cert_chain_pems[0], issued.private_key_pem, authority.cert_pem)
    for path, blob in zip(paths, blobs, strict=True):
        blob.write_to_path(path)
    return Certificates(paths[0], paths[1], paths[2])


def test_a_pair_and_its_authorities_are_accepted(tmp_path: Path) -> None:
    certificates = write_certificates(tmp_path)
    roots = certificates.client_authorities
    assert roots is not None
    roots.write_bytes("# Főtanúsítvány\n".encode() + roots.read_bytes())
    assert certificates.credentials()


def test_the_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    ours, others = write_certificates(tmp_path), write_certificates(tmp_path, "other")
    with pytest.raises(TlsError, match=r"server-chain.pem and .*other-key.pem cannot be used .* key values mismatch"):
        Certificates(ours.chain, others.key).credentials()


def test_a_key_with_a_password_is_refused(tmp_path: Path) -> None:
    pair = write_certificates(tmp_path)
    locked = tmp_path / "locked.pem"
    command = ["openssl", "pkey", "-in", str(pair.key), "-aes256", "-passout", "pass:word", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(TlsError, match="password"):
        Certificates(pair.chain, locked).credentials()


@pytest.mark.parametrize(
    ("part", "kind", "words"),
    [
        ("chain", "CERTIFICATE", "cannot be used as a certificate and its key"),
        ("key", "PRIVATE KEY", "cannot be used as a certificate and its key"),
        ("client_authorities", "CERTIFICATE", "roots.pem cannot be read as certificates"),
    ],
)
def test_a_file_that_only_looks_like_pem_is_refused(tmp_path: Path, part: str, kind: str, words: str) -> None:
    certificates = write_certificates(tmp_path)
    path: Path = getattr(certificates, part)
    path.write_text(GARBAGE.format(kind))
    with pytest.raises(TlsError, match=words):
        certificates.credentials()
    path.write_text("no PEM at all")
    with pytest.raises(TlsError, match=f"{path.name} has no {kind.lower()} in PEM"):
        certificates.credentials()


@pytest.mark.parametrize("part", ["chain", "key", "client_authorities"])
def test_a_rotation_takes_effect_when_all_files_match(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    certificates, renewed = write_certificates(tmp_path), write_certificates(tmp_path, "renewed")
    certificates.credentials()
    assert certificates._reload() is None
    assert caplog.text == ""
    getattr(certificates, part).write_text(GARBAGE.format("PRIVATE KEY" if part == "key" else "CERTIFICATE"))
    for _ in range(2):  # an unusable file is read again each time
        assert certificates._reload() is None
    assert caplog.text.count("the old certificate stays in use") == 2
    for name in ("chain", "key", "client_authorities"):
        getattr(renewed, name).replace(getattr(certificates, name))
    assert certificates._reload() is not None
    assert certificates._reload() is None
