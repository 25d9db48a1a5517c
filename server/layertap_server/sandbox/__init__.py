"""Child processes in which native code meets models of unknown origin.

`jobs.Sandbox` gives them jobs, each with limits of time and memory. A model that ends its process cannot be used.
Nothing is imported here: `worker` starts a first child before the server has imported what it needs itself.
"""
