"""Work whose caller is gone is ended, in the middle of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layertap import Client, errors
from tests.models import branching, model_folder
from tests.odd_models import OPSET, of_text
from tests.processes import running_server

ENDLESS = f"""{OPSET}
endless (float[batch, 3, 8, 8] image) => (float[batch, 3, 8, 8] result) {{
    times = Constant <value_int = 4611686018427387904> ()
    always = Constant <value = bool {{1}}> ()
    last = Loop (times, always, image) <
        body = again (int64 number, bool go_on, float[batch, 3, 8, 8] state)
            => (bool still, float[batch, 3, 8, 8] next) {{
            still = Identity (go_on)
            next = Tanh (state)
        }}
    >
    result = Relu (last)
}}"""


def test_a_run_without_end_is_ended_when_its_caller_goes(tmp_path: Path) -> None:
    model_folder(tmp_path, "endless", of_text(ENDLESS))
    model_folder(tmp_path, "branching", branching())
    images = np.zeros((1, 3, 8, 8), np.float32)
    with running_server(models=tmp_path) as server, Client(server.address) as client:
        for _ in range(4):  # more than there are workers
            with pytest.raises(errors.DeadlineError):
                client.extract(images, model="endless", taps="result", timeout_seconds=0.5)
        assert client.extract(images, model="branching", taps="scores", timeout_seconds=5)["scores"].shape == (1, 4)
        server.wait_until_idle()
        assert "incident" not in server.log.read_text()
