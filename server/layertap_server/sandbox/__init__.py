"""Child processes in which native code meets models of unknown origin.

`Sandbox` gives them jobs, each with limits of time and memory. A model that ends its process cannot be used.
"""

from layertap_server.sandbox.sandbox import FirstSessionError, Sandbox, SandboxError, SandboxLimits

__all__ = ["FirstSessionError", "Sandbox", "SandboxError", "SandboxLimits"]
