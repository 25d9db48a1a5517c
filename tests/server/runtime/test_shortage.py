"""Tests of which failures are attributed to a lack of system resources."""

from __future__ import annotations

import errno
import os

import pytest

from layertap_server.runtime.shortage import Resource, shortage_in, shortage_in_text


@pytest.mark.parametrize(
    ("error", "resource"),
    [
        (MemoryError(), Resource.MEMORY),
        (RuntimeError("can't start new thread"), Resource.THREADS),
        *[
            (OSError(number, os.strerror(number)), resource)
            for number, resource in [
                (errno.ENOMEM, Resource.MEMORY),
                (errno.EMFILE, Resource.DESCRIPTORS),
                (errno.ENFILE, Resource.DESCRIPTORS),
                (errno.ENOSPC, Resource.DISK),
                (errno.EDQUOT, Resource.DISK),
            ]
        ],
    ],
)
def test_what_python_raises(error: BaseException, resource: Resource) -> None:
    shortage = shortage_in(error)
    assert shortage is not None
    assert (shortage.metadata["resource"], shortage.status) == (resource.value, "RESOURCE_EXHAUSTED")
    assert shortage.retry_after == 1
    assert f"no {resource} left" in shortage.message


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyError("y"), OSError("no number"), OSError(errno.ENOENT, "z"), RuntimeError("of the program")],
)
def test_other_failures_are_not(error: BaseException) -> None:
    assert shortage_in(error) is None


@pytest.mark.parametrize(
    ("text", "resource"),
    [
        ("PosixThread pthread_create failed, error code: 11 error msg: Resource temporarily unavailable", "threads"),
        ("open file weights.bin fail, errcode = 24 - Too many open files", "file descriptors"),
        ("std::bad_alloc", "memory"),
        ("mmap: Cannot allocate memory", "memory"),
        ("write: No space left on device", "disk space"),
    ],
)
def test_what_native_libraries_say(text: str, resource: str) -> None:
    shortage = shortage_in_text(text)
    assert shortage is not None
    assert shortage.metadata["resource"] == resource
    assert shortage_in_text("Node (Conv) has input size 3 not in range") is None
