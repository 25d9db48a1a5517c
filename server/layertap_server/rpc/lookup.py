"""Finds the model that a request names, and writes it into the request's record."""

from __future__ import annotations

from layertap_server.models.loader import LoadedModel
from layertap_server.models.repository import Repository
from layertap_server.request.context import current_request


def found(repository: Repository, name: str, version: str) -> LoadedModel:
    """The model; errors as of `Repository.get`."""
    noted(repository, name)
    model = repository.get(name, version)
    current_request().version = model.info.version
    return model


def noted(repository: Repository, name: str) -> None:
    """Writes the name down, if the repository has such a model; what a caller made up becomes no label."""
    if name in repository:
        current_request().model = name
