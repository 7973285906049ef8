"""Settings: one schema in which every field says unit and effect; YAML 1.2 in, validated settings out.

schema: the fields; rules: what contradicts what, and what does nothing; aliases: other projects' names; loading: files,
dicts and key=value; page: docs/settings.md.
"""

from mslab.config.aliases import NEIGHBOURS, SAME
from mslab.config.loading import Source, dump_config, load_config, load_settings, read_yaml
from mslab.config.schema import FIELDS, IMAGENET, Profile, Settings, Stage, Triple

__all__ = ["FIELDS", "IMAGENET", "NEIGHBOURS", "SAME", "Profile", "Settings", "Source", "Stage", "Triple"]
__all__ += ["dump_config", "load_config", "load_settings", "read_yaml"]
