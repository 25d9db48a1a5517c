"""A compiled model -> a session -> arrays. The only importer of onnxruntime."""

from layertap_server.runtime.contention import Contention
from layertap_server.runtime.devices import DeviceError, devices_for
from layertap_server.runtime.opening import Runtime
from layertap_server.runtime.session import Session, SessionError

__all__ = ["Contention", "DeviceError", "Runtime", "Session", "SessionError", "devices_for"]
