"""The transport: bytes in, bytes out. Each service decodes, calls the engine or the repository, and encodes."""
