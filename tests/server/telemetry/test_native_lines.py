"""Tests of the redirection of file descriptor 2, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from layertap_server.telemetry.native_lines import LAST_LINES, MAX_LINES_PER_MINUTE
from tests.paths import ROOT

PROGRAM = """
import ctypes, os, subprocess, sys
from layertap_server.telemetry import native_lines
with native_lines.redirect("{format_}"):
    {body}
"""


def run(body: str, format_: str = "json") -> tuple[int, list[str]]:
    """Run code in a process with the redirection; return its exit status and the lines on stderr."""
    program = PROGRAM.format(format_=format_, body=body)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, cwd=ROOT, check=False)
    return done.returncode, done.stderr.decode().split("\n")[:-1]


def messages(lines: list[str]) -> list[str]:
    """Return the messages of JSON lines."""
    entries: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
    assert all((entry["logger"], entry["level"]) == ("native", "warning") for entry in entries)
    return [entry["message"] for entry in entries]


def test_a_library_s_line_is_a_line_of_the_log() -> None:
    status, lines = run(r"os.write(2, b'TIFFFillStrip: \x1b[2J bad\n\n')")
    assert status == 0
    assert messages(lines) == ["TIFFFillStrip: \x1b[2J bad"]
    _, (line,) = run(r"os.write(2, b'TIFFFillStrip: \x1b[2J bad\n')", "console")
    assert line.endswith(" WARNING native: TIFFFillStrip: \\x1b[2J bad")


def test_python_s_own_stderr_is_as_it_was() -> None:
    assert run("print('plain', file=sys.stderr)") == (0, ["plain"])
    status, lines = run("raise ValueError('of the program')")
    assert (status, lines[-1]) == (1, "ValueError: of the program")


def test_many_lines_are_counted_and_the_last_of_them_kept() -> None:
    status, lines = run(
        r"for number in range(5000): os.write(2, b'line %d\n' % number); number % 100 or __import__('time').sleep(0.01)"
    )
    told = messages(lines)
    assert status == 0
    assert len(told) == MAX_LINES_PER_MINUTE + 1 + LAST_LINES
    assert "lines of native libraries exceeded the limit" in told[MAX_LINES_PER_MINUTE]
    assert told[-1] == "line 4999"


def test_lines_of_a_child_process_are_logged_too() -> None:
    _, lines = run("subprocess.run(['sh', '-c', 'echo of a child >&2'])")
    assert messages(lines) == ["of a child"]


@pytest.mark.parametrize("end", ["os.abort()", "ctypes.string_at(0)", "os._exit(3)", "os.kill(os.getpid(), 9)"])
def test_the_last_lines_before_a_crash_are_logged(end: str) -> None:
    status, lines = run(rf"os.write(2, b'terminate called without an exception\n'); {end}")
    assert status != 0
    assert messages(lines) == ["terminate called without an exception"]
    if "os." not in end or "abort" in end:
        assert any("Fatal Python error" in line for line in lines)
        assert any('File "<string>"' in line for line in lines)


def test_an_unread_log_blocks_no_library() -> None:
    body = r"""
    for _ in range(100_000):
        try:
            os.write(2, b"x" * 99 + b"\n")
        except BlockingIOError:
            pass
"""
    program = PROGRAM.format(format_="json", body=body.strip())
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
