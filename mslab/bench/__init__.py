"""Speed and memory beside others, measured side by side in one run. Figures are ratios: machines and days differ.

check       the dataset checker beside a bare parallel Pillow decode, CleanVision and imagededup
pipeline    loading and augmenting images with no network: folders, packs, caches, and how all that grows
transfer    head-only transfer with cached features beside the same job without
speed       ResNet-50, training and inference, beside PyTorch and mindcv
steptime    where the time of a training step goes
contenders  what runs inside a contender's process, for the last two
"""


def last_word(stderr: str) -> str:
    """Why a process ended, from what it wrote on standard error: the last line that names an error, else the last."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["no message"]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1])
