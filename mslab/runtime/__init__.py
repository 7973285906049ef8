"""The machine that runs mslab: versions, devices, CUDA's libraries, the terminal, signals, workers of one training.

Importing this package does not import MindSpore; only the module workers does.
"""
