"""Settings: one schema with unit and effect of every field; YAML 1.2 in, validated settings out.

schema, data_schema and kinds: the fields, and what values they take; networks: names and groups of mindcv's; rules:
contradictions, and settings that do nothing; aliases and naming: other projects' names, and misspelt ones; reading and
mending: files, and lines that are no YAML; overrides: key=value; correcting: values as they are written; loading: all
of it; resolve: settings that depend on data, backbone or machine; page: docs/settings.md.
"""

from mslab.config.aliases import FOREIGN_NAMES, SHARED_NAMES
from mslab.config.data_schema import IMAGENET
from mslab.config.kinds import Mean, NetworkName, Stages, Std
from mslab.config.loading import Source, dump_config, load_config, load_settings
from mslab.config.overrides import override
from mslab.config.reading import read_yaml
from mslab.config.schema import FIELDS, Profile, Settings

__all__ = ["FIELDS", "FOREIGN_NAMES", "IMAGENET", "SHARED_NAMES", "Mean", "NetworkName", "Profile", "Settings"]
__all__ += ["Source", "Stages", "Std", "dump_config", "load_config", "load_settings", "override", "read_yaml"]
