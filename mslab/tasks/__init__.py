"""What the labels of a task say: boxes, masks, key points and tags, as one value for every form in which they come.

labels (the values) <- rle (masks as run lengths and polygons) <- coco (COCO's JSON), tags (a table of 0 and 1), masks
(a picture of classes) <- folders (which of these a data set has). Nothing here opens an image or imports MindSpore.
"""
