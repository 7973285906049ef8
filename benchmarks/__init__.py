"""Speed and memory beside others, measured side by side in one run. Figures are ratios: machines and days differ.

check       the dataset checker beside a bare parallel Pillow decode, CleanVision and imagededup
pipeline    loading and augmenting images with no network: folders, packs, caches, and how all that grows
transfer    head-only transfer with cached features beside the same job without
bookkeeping what a run's manifest, hashes, tables and log cost
predictions answering images beside the network's forward pass alone
speed       ResNet-50, training and inference, beside PyTorch and mindcv
grading     a generated class of submissions, graded twice
knobs       what the knobs of training are worth, over several seeds
steptime    where the time of a training step goes
contenders  what runs inside a contender's process, for the last two
processes   how such a process is started
"""
