"""Read the profiles in a model's folder, files ``NAME.profile.safetensors`` that ``layertap profile`` has written."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

from layertap.errors import BadParameterError
from layertap.profile import SUFFIX, ChannelStatistics, Profile, ProfiledTap
from layertap.storage import StorageError
from layertap_server.config.yaml_document import ManifestError

log = logging.getLogger(__name__)

PROFILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
"""Pattern of a profile's name: a plain name, never a path."""
LARGEST_PROFILE_BYTES = 2**28
"""Maximum size of a profile; larger files are not read."""


class ProfileFiles:
    """Profiles of one load of a model. A file is read at its first use, and again only after the model is reloaded."""

    def __init__(self, find: Callable[[str], Path | None], model: str, version: str) -> None:
        """Create the source.

        Args:
            find: finder of a file in the model's folder, by its name.
            model: name of the model.
            version: version of the model.
        """
        self._find = find
        self._model = model
        self._version = version
        self._read: dict[str, Profile] = {}

    def find(self, name: str, layer: str, head: str) -> ChannelStatistics:
        """Return the statistics of a layer after a head.

        Raises:
            BadParameterError: there is no such profile, it cannot be read, or it describes another model or tap.
        """
        profile = self._read.get(name)
        if profile is None:  # two requests may read the same file; neither waits for another file
            profile = self._read[name] = self._load(name)
        wanted = ProfiledTap(layer, head, 0).name
        try:
            return profile[wanted]
        except KeyError:
            known = ", ".join(tap.name for tap in profile.taps[:8])
            message = f"the profile {name!r} does not describe {wanted!r}; it describes {known}"
            raise _refuse(name, message) from None

    def _load(self, name: str) -> Profile:
        """Read a profile and check that it is of this model."""
        if not PROFILE_NAME.fullmatch(name):
            raise _refuse(name, f"expected profile as a plain name such as 'mine', got {name!r}")
        try:
            path = self._find(f"{name}{SUFFIX}")
            if path is None:
                raise _refuse(name, f"the model's folder has no file {name}{SUFFIX}; copy the profile there")
            _check_size(path)
            profile = Profile.load(path)
        except (ManifestError, StorageError, OSError) as error:
            log.warning("the profile %s cannot be used: %s", name, error)
            what = f"the file {name}{SUFFIX} in the model's folder"
            message = f"{what} cannot be used as a profile: it is damaged or of another kind; compute it again"
            raise _refuse(name, message) from error
        if (profile.model, profile.version) != (self._model, self._version):
            made_for = f"{profile.model}, version {profile.version}"
            raise _refuse(name, f"the profile {name!r} is of the model {made_for}; compute it for this model")
        return profile


def _check_size(path: Path) -> None:
    """Raise `StorageError` if a file is larger than a profile may be."""
    if (size := path.stat().st_size) > LARGEST_PROFILE_BYTES:
        raise StorageError(f"{path} has {size} bytes, and the limit is {LARGEST_PROFILE_BYTES}")


def _refuse(name: str, message: str) -> BadParameterError:
    """Return the error of a profile that cannot be used."""
    return BadParameterError(message, parameter="profile", got=name)
