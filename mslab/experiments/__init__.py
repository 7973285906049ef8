"""Experiments of several runs: demo, comparison (scratch, frozen, fine-tuned), repeating (seeds), lr_find,
batch_tuner, sweep.
"""
