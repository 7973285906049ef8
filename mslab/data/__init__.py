"""From checked files to batches: images, batching, augment, decoded (kept pixels), seeding, cache; split, import and
pack a data set; mushrooms and animals make one.
"""
