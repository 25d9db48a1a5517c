"""The Layertap server; programs use the SDK, `layertap`.

`layertap_server.app` connects the server's parts, and `layertap_server.lifecycle` starts and stops them.
"""
