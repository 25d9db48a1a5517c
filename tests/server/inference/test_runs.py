"""Tests of running a plan on the images of one request."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from layertap.errors import InvalidRequestError, ShapeMismatchError
from layertap.types import Array
from layertap_server.inference.other_inputs import OtherInputs
from layertap_server.inference.plan_run import PlanRun
from layertap_server.inference.runs import _join_parts
from layertap_server.planning.open_plan import OpenPlan
from layertap_server.request.cancellation import Cancellation
from layertap_server.runtime import SessionError


class Doubling:
    """An opened plan that doubles its images, and fails on negative ones."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.others: list[int] = []

    def run(self, images: Array, others: dict[str, Array], _cancellation: Cancellation) -> dict[str, Array]:
        self.sizes.append(len(images))
        self.others += [len(array) for array in others.values()]
        if (images < 0).any():
            raise SessionError("no negative values\nat node 3")
        return {"y": 2 * images}


def run_of(plan: Doubling, fixed_batch: int | None = None, masks: int = 2) -> PlanRun:
    others = OtherInputs({"mask": np.zeros((masks, 5))}, {})
    return PlanRun(cast("OpenPlan", plan), others, fixed_batch)


def test_a_fixed_batch_is_padded_and_the_padding_dropped() -> None:
    plan = Doubling()
    arrays = run_of(plan, fixed_batch=4).run(np.array([[1.0], [2.0]]), Cancellation())
    assert arrays["y"].tolist() == [[2], [4]]
    assert (plan.sizes, plan.others) == ([4], [4])


def test_a_failure_of_the_session_names_its_first_line() -> None:
    with pytest.raises(InvalidRequestError, match=r"on this input: no negative values$"):
        run_of(Doubling()).run(np.array([[-1.0]]), Cancellation())


def test_runs_share_a_key_only_if_given_one() -> None:
    plan = Doubling()
    assert run_of(plan).batch_key != run_of(plan).batch_key


def test_parts_are_joined_in_order_and_differing_shapes_refused() -> None:
    parts = [{"y": np.array([[1.0]])}, {"y": np.array([[2.0]])}]
    assert _join_parts(parts)["y"].tolist() == [[1], [2]]
    with pytest.raises(ShapeMismatchError, match=r"y differs in shape between images \(\[1\] and \[2\]\)"):
        _join_parts([parts[0], {"y": np.zeros((1, 2))}])
