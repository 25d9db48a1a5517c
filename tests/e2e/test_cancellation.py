"""Test that work is ended in the middle of a run when its caller leaves."""

from __future__ import annotations

import io
import os
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from layertap import Client, _calls, errors
from layertap.images import to_payloads
from layertap.types import ExtractRequest
from tests.models import branching, model_folder
from tests.odd_models import OPSET, of_text
from tests.processes import ServerProcess, running_server

ENDLESS = f"""{OPSET}
endless (float[batch, 3, 8, 8] image) => (float[batch, 3, 8, 8] result) {{
    always = Constant <value = bool {{1}}> ()
    last = Loop ("", always, image) <
        body = again (int64 number, bool go_on, float[batch, 3, 8, 8] state)
            => (bool still, float[batch, 3, 8, 8] next) {{
            still = Identity (go_on)
            next = Tanh (state)
        }}
    >
    result = Relu (last)
}}"""


def processor_seconds(server: ServerProcess) -> float:
    """Return the CPU seconds that the server has used."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_images_are_not_decoded_for_a_caller_who_is_gone(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8000, 8000)).save(file, "PNG", compress_level=1)
    model_folder(tmp_path, "branching", branching())
    asked = _calls.extract(ExtractRequest("branching", to_payloads([file.getvalue()] * 60), ("scores",)))
    with running_server(models=tmp_path) as server, Client(server.address) as client:
        begun = processor_seconds(server)
        client.extract(file.getvalue(), model="branching", taps="scores")
        one = processor_seconds(server) - begun
        with grpc.insecure_channel(server.address) as channel:
            method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(asked.method)
            call = method.future(asked.request)
            server.wait_until_busy()
            call.cancel()
            server.wait_until_idle()
        assert processor_seconds(server) - begun < 30 * one
        assert "incident" not in server.log.read_text()


def test_a_run_without_end_is_ended_when_its_caller_goes(tmp_path: Path) -> None:
    model_folder(tmp_path, "endless", of_text(ENDLESS))
    model_folder(tmp_path, "branching", branching())
    images = np.zeros((1, 3, 8, 8), np.float32)
    with running_server(models=tmp_path) as server, Client(server.address) as client:
        for _ in range(4):  # more than the number of workers
            with pytest.raises(errors.DeadlineError):
                client.extract(images, model="endless", taps="result", timeout_seconds=0.5)
        assert client.extract(images, model="branching", taps="scores", timeout_seconds=5)["scores"].shape == (1, 4)
        server.wait_until_idle()
        assert "incident" not in server.log.read_text()
