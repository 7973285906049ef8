"""Learning rate per step: pure functions of the config, no MindSpore."""

import numpy as np


def warmup_cosine(
    epochs: int, steps_per_epoch: int, warmup_epochs: float, lr_init: float, lr_max: float, lr_end: float = 0.0
) -> np.ndarray:
    """Learning rate per step. Returns float32 (epochs * steps_per_epoch,).

    Linear from lr_init at step 0 to lr_max at the first step after warmup, then cosine to lr_end at the last step
    (Goyal et al. 2017; Loshchilov & Hutter 2017). It rises at every step: `nn.warmup_lr` stays at 0 for an epoch.
    """
    # warmup_cosine(3, 2, 1, 0.0, 1.0) -> [0, 0.5, 1, 0.75, 0.25, 0]
    total, warmup = epochs * steps_per_epoch, round(min(warmup_epochs, epochs) * steps_per_epoch)
    rise = lr_init + (lr_max - lr_init) * np.arange(warmup) / max(warmup, 1)
    progress = np.arange(total - warmup) / max(total - warmup - 1, 1)
    fall = lr_end + (lr_max - lr_end) * (1 + np.cos(np.pi * progress)) / 2
    return np.concatenate([rise, fall]).astype(np.float32)
