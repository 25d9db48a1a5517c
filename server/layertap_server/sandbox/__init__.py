"""Child processes that run native code on models of unknown origin.

``jobs.Sandbox`` sends jobs to the child processes, each with limits of time and memory. A model that crashes its
process is rejected. This package imports nothing, so that ``worker`` can start a first child before the server has
imported its own modules.
"""
