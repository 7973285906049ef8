"""From checked files to batches: sources, batching, augment, decoded (cached pixels), seeding, cache. Also splitting,
unpacking and packing a data set; mushrooms and animals make one.
"""
