"""The Layertap service. `layertap_server.app` joins its parts; programs use the SDK, `layertap`."""
