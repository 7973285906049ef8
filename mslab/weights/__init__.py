"""Published weights by name, such as torchvision:resnet50: what is known of them, where they lie, how they are fetched.

registry: names and facts, from the tables torchvision, timm and mindcv; obtaining: the file for a name, from the folder
or fetched; fetching: one file over HTTP, whole and with the published hash, or not at all; listing: `mslab weights`.
"""

from mslab.weights.obtaining import FOLDER, folder, here, obtain
from mslab.weights.registry import Published, is_named, near, of_file, of_name, published

__all__ = ["FOLDER", "Published", "folder", "here", "is_named", "near", "obtain", "of_file", "of_name", "published"]
