"""Tasks beside classification: what their labels say, and a head, loss, decoding and metric for each.

Labels, without MindSpore: labels (the values) <- rle (masks as run lengths and polygons) <- coco (COCO's JSON), tags (a
table of 0 and 1), masks (a picture of classes) <- folders (which of these a data set has).
Heads: neck (the feature pyramid and the network) and sample (an image and its labels as arrays, cropped and mirrored
together) <- multilabel, segment, keypoints, detect and tiles; average_precision measures, drawing shows what they find.
"""
