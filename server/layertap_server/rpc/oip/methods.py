"""The table of the RPCs of the Open Inference Protocol: one row each, as in `layertap.wire.rpcs`."""

from __future__ import annotations

from layertap.wire.rpcs import Kind, Pool, Rpc

SERVICE = "inference.GRPCInferenceService"
"""Full name of the service."""


def _listing(name: str) -> Rpc:
    """Return the row of a quick method."""
    return Rpc(SERVICE, name, pool=Pool.LISTING)


def _control(name: str) -> Rpc:
    """Return the row of a method that loads or unloads a model."""
    return Rpc(SERVICE, name, pool=Pool.CONTROL, role="control")


SERVER_LIVE = _listing("ServerLive")
SERVER_READY = _listing("ServerReady")
MODEL_READY = _listing("ModelReady")
SERVER_METADATA = _listing("ServerMetadata")
MODEL_METADATA = _listing("ModelMetadata")
MODEL_INFER = Rpc(SERVICE, "ModelInfer")
MODEL_STREAM_INFER = Rpc(SERVICE, "ModelStreamInfer", Kind.STREAM)
MODEL_CONFIG = _listing("ModelConfig")
MODEL_STATISTICS = _listing("ModelStatistics")
REPOSITORY_INDEX = _listing("RepositoryIndex")
REPOSITORY_MODEL_LOAD = _control("RepositoryModelLoad")
REPOSITORY_MODEL_UNLOAD = _control("RepositoryModelUnload")
SYSTEM_STATUS = _listing("SystemSharedMemoryStatus")
SYSTEM_REGISTER = _listing("SystemSharedMemoryRegister")
SYSTEM_UNREGISTER = _listing("SystemSharedMemoryUnregister")
CUDA_STATUS = _listing("CudaSharedMemoryStatus")
CUDA_REGISTER = _listing("CudaSharedMemoryRegister")
CUDA_UNREGISTER = _listing("CudaSharedMemoryUnregister")
TRACE_SETTING = _listing("TraceSetting")
LOG_SETTINGS = _listing("LogSettings")
RPCS: tuple[Rpc, ...] = tuple(rpc for rpc in list(globals().values()) if isinstance(rpc, Rpc))
"""All rows above."""
