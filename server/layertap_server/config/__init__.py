"""Reading of the server's settings and of YAML files."""
