"""Speed and memory beside other projects, measured side by side in one run. Figures are ratios: machines differ.

check       the dataset checker beside a bare parallel Pillow decode, CleanVision and imagededup
pipeline    loading and augmenting images without a network: folders, packs, caches, over numbers of images
transfer    head-only transfer with cached features beside the same job without
bookkeeping the cost of a run's manifest, hashes, tables and log
predictions mslab predict beside the network's forward pass alone
speed       ResNet-50, training and inference, beside PyTorch, mindcv, onnxruntime and OpenVINO
loop        mslab train beside its own bare step, and what a step of the loop consists of
answer      transfer until an accuracy is reached, beside a plain PyTorch script: answer_torch
results     recorded results with the machine and versions, and the tables of docs/speed.md
grading     a generated class of submissions, graded twice
knobs       the effect of training settings, over several seeds
steptime    the time of a training step by kind of operator
contenders  the code inside a contender's process, for speed and steptime
processes   runs a benchmark in a process, once or in turns with others
"""

import mslab  # noqa: F401  # first: it answers Ctrl-C while the rest is imported
