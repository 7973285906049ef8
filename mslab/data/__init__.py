"""From checked files to batches: sources, batching, augment, decoded (cached pixels), seeding, cache. Also splitting
(folds), unpacking, labelling (by a table) and packing a data set; mushrooms and animals make one.
"""
