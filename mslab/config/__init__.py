"""Settings: one schema with unit and effect of every field; YAML 1.2 in, validated settings out.

schema and kinds: the fields, and what values they take; rules: contradictions, and settings that do nothing; aliases
and naming: other projects' names, and misspelt ones; reading and mending: files, and lines that are no YAML; overrides:
key=value; correcting: values as they are written; loading: all of it; resolve: settings that depend on data, backbone
or machine; page: docs/settings.md.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mslab.config.aliases import FOREIGN_NAMES, SHARED_NAMES
    from mslab.config.kinds import Mean, Stages, Std
    from mslab.config.loading import Source, dump_config, load_config, load_settings
    from mslab.config.overrides import override
    from mslab.config.reading import read_yaml
    from mslab.config.schema import FIELDS, IMAGENET, Profile, Settings

__all__ = ["FIELDS", "FOREIGN_NAMES", "IMAGENET", "SHARED_NAMES", "Mean", "Profile", "Settings", "Source", "Stages"]
__all__ += ["Std", "dump_config", "load_config", "load_settings", "override", "read_yaml"]

LATER = {  # module -> its names
    "aliases": ["FOREIGN_NAMES", "SHARED_NAMES"],
    "kinds": ["Mean", "Stages", "Std"],
    "loading": ["Source", "dump_config", "load_config", "load_settings"],
    "overrides": ["override"],
    "reading": ["read_yaml"],
    "schema": ["FIELDS", "IMAGENET", "Profile", "Settings"],
}


def __getattr__(name: str) -> Any:
    """Import pydantic, NumPy and YAML when they are needed: a process that needs only a language starts faster."""
    for module, names in LATER.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(f"mslab.config.{module}"), name)
            return value
    raise AttributeError(f"module 'mslab.config' has no attribute '{name}'")
