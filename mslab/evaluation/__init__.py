"""Trained networks: loaded and measured (measuring), figures from logits (metrics), heat maps (gradcam)."""
