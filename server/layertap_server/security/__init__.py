"""TLS certificates, access tokens and the options of the gRPC listener."""
