"""Look-up of the model that a request names; the name is recorded in the request context."""

from __future__ import annotations

from layertap_server.models.loader import LoadedModel
from layertap_server.models.repository import Repository
from layertap_server.request.context import RequestContext


def find_model(repository: Repository, name: str, version: str, context: RequestContext) -> LoadedModel:
    """Return the model of this name and version, and record both in the request context.

    Raises:
        LayertapError: as `Repository.get` raises it.
    """
    record_model(repository, name, context)
    model = repository.get(name, version)
    context.version = model.info.version
    return model


def record_model(repository: Repository, name: str, context: RequestContext) -> None:
    """Record the model's name in the request context if the repository has the model.

    Other names are not recorded: they are text of the caller and must not become labels of metrics.
    """
    if name in repository:
        context.model = name
