"""Several runs with one question: demo, comparison (scratch, frozen, fine-tuned), repeating (seeds), lr_find,
batch_tuner, sweep.
"""
