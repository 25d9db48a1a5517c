"""A compiled model -> a session -> arrays. The only importer of onnxruntime."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnxruntime as ort  # noqa: TID251 - this is the place

from layertap.errors import CancelledError, DeviceMemoryError
from layertap.types import Array
from layertap_server import cancellation
from layertap_server.cancellation import Cancellation
from layertap_server.graph import probe_model

FIRST_REGION_BYTES = 128 * 2**20
"""Of the arena, which is kept: its pages stay warm from run to run. What a run needs beyond it is given back."""
LARGEST_FOLDED = str(16 * 2**20)
QUIET = 4
"""onnxruntime's severity "fatal": what fails is raised here, it need not be printed as well."""


class DeviceError(Exception):
    """The device that was asked for cannot be used; the message says why."""


class SessionError(Exception):
    """onnxruntime refused the model, or failed while it ran."""


class Session:
    """One opened model; any number of threads may run it at once."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], limit_seconds: float | None = None
    ) -> list[Array]:
        """The outputs, in this order.

        Raises:
            DeviceMemoryError: the device has no room for it.
            CancelledError: the caller is gone.
            SessionError: it failed in another way, or took longer than the limit.
        """
        job = cancellation.current()
        options = ort.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        with _wrapped(job), _limited(options, limit_seconds), job.stopping(lambda: _terminate(options)):
            return list(self._session.run(list(outputs), dict(inputs), options))


class Runtime:
    """Opens sessions on one device."""

    def __init__(self, device: str = "auto", threads: int = 0) -> None:
        """``device`` is auto, cpu, cuda or cuda:N; ``threads`` of one run, 0 for all cores.

        Raises:
            DeviceError: CUDA was asked for and does not work here.
        """
        self._threads = threads
        _share_an_arena()
        self._providers: list[tuple[str, dict[str, str]]] = [("CPUExecutionProvider", {})]
        if device != "cpu":
            self._use_cuda(device)

    @property
    def device(self) -> str:
        """What runs: ``CPU`` or ``CUDA:0``."""
        name, options = self._providers[0]
        return f"CUDA:{options['device_id']}" if name.startswith("CUDA") else "CPU"

    def open(self, model: bytes, weights_folder: Path) -> Session:
        """A session of the model, whose external weights lie in the folder.

        Raises:
            SessionError: onnxruntime does not take the model.
            DeviceMemoryError: the device has no room for it.
        """
        options = ort.SessionOptions()
        options.log_severity_level = QUIET
        options.intra_op_num_threads = self._threads
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Spinning threads burn the cores that other requests in flight need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A constant that a node makes is not worth a copy in every session once it is large.
        options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", LARGEST_FOLDED)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights_folder))
        with _wrapped():
            return Session(ort.InferenceSession(model, options, providers=self._providers, enable_fallback=0))

    def _use_cuda(self, device: str) -> None:
        """Puts CUDA first, after trying it: onnxruntime itself falls back to the CPU without a word."""
        number = device.partition(":")[2] or "0"
        cuda = ("CUDAExecutionProvider", {"device_id": number})
        problem = _cuda_problem(cuda)
        if not problem:
            self._providers.insert(0, cuda)
        elif device != "auto":
            raise DeviceError(f"device {device}: {problem}; use --device cpu, or auto to take what there is")


@functools.cache
def _share_an_arena() -> None:
    """One arena for all sessions of the process, which gives back what a run leaves (docs/decisions/0004)."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    configuration = ort.OrtArenaCfg({"initial_chunk_size_bytes": FIRST_REGION_BYTES})
    ort.create_and_register_allocator(memory, configuration)


def _cuda_problem(provider: tuple[str, dict[str, str]]) -> str:
    """Why CUDA cannot be used here; empty when it can."""
    if provider[0] not in ort.get_available_providers():
        return "this onnxruntime has no CUDA; install layertap[cuda]"
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return "this machine has no NVIDIA device"
    options = ort.SessionOptions()
    options.log_severity_level = QUIET
    ort.set_default_logger_severity(QUIET)
    with contextlib.suppress(Exception):
        ort.preload_dlls()
    try:
        session = ort.InferenceSession(probe_model(), options, providers=[provider], enable_fallback=0)
    except Exception as error:  # noqa: BLE001 - any failure of the probe means the same
        return str(error).splitlines()[0]
    return "" if provider[0] in session.get_providers() else "CUDA or cuDNN cannot be loaded; install layertap[cuda]"


@contextlib.contextmanager
def _limited(options: ort.RunOptions, seconds: float | None) -> Iterator[None]:
    """Ends the run between two operators when the time is over."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, lambda: _terminate(options))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _terminate(options: ort.RunOptions) -> None:
    """Ends a run between two operators."""
    options.terminate = True


@contextlib.contextmanager
def _wrapped(job: Cancellation | None = None) -> Iterator[None]:
    """onnxruntime's exceptions end here."""
    try:
        yield
    except Exception as error:
        if job is not None and job.is_cancelled:
            raise CancelledError("the caller is gone; the run was ended") from error
        text = str(error)
        if "Failed to allocate memory" in text or "out of memory" in text.lower():
            raise DeviceMemoryError("the device has no memory left for this request; send fewer images") from error
        raise SessionError(text) from error
