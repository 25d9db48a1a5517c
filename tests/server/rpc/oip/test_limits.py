"""Test that each repeated field of a request of the Open Inference Protocol has a limit."""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor

from layertap.wire import _limits
from layertap_server.rpc.oip import methods
from layertap_server.rpc.oip.limits import ELEMENTS
from layertap_server.rpc.oip.messages import POOL

SERVICE = POOL.FindServiceByName(methods.SERVICE)


def repeated_fields(descriptor: Descriptor) -> set[str]:
    """Return the full names of the repeated fields of a message and its parts."""
    found = {field.full_name for field in descriptor.fields if _limits.is_repeated(field)}
    return found.union(*(repeated_fields(field.message_type) for field in descriptor.fields if field.message_type))


def test_every_repeated_field_of_a_request_has_a_limit() -> None:
    assert set(ELEMENTS) == set().union(*(repeated_fields(method.input_type) for method in SERVICE.methods))


def test_every_method_of_the_protos_is_a_row() -> None:
    assert {rpc.name for rpc in methods.RPCS} == {method.name for method in SERVICE.methods}
