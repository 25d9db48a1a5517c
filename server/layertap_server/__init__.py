"""The Layertap server. `layertap_server.app` connects its parts; programs use the SDK, `layertap`."""
