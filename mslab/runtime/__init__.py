"""The machine under a run: versions, devices, CUDA's libraries, the terminal, signals, workers of one training.

Importing this room does not import MindSpore; only workers does.
"""
