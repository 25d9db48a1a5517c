"""The gRPC transport. Each method decodes the request, calls the engine or the repository, and encodes the response."""
