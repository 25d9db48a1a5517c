"""Sessions that run compiled models on arrays. No other package of the server imports onnxruntime."""

from layertap_server.runtime.contention import Contention
from layertap_server.runtime.devices import DeviceError, devices_for
from layertap_server.runtime.opening import Runtime
from layertap_server.runtime.session import Session, SessionError

__all__ = ["Contention", "DeviceError", "Runtime", "Session", "SessionError", "devices_for"]
