"""A compiled model -> a session -> arrays. The only importer of onnxruntime."""

from layertap_server.runtime.crowd import Crowd
from layertap_server.runtime.devices import DeviceError, devices_for
from layertap_server.runtime.opening import Runtime
from layertap_server.runtime.session import Session, SessionError

__all__ = ["Crowd", "DeviceError", "Runtime", "Session", "SessionError", "devices_for"]
