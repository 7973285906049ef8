"""Trained networks: loading and evaluating them (measuring), metrics from logits (metrics), heat maps (gradcam)."""
