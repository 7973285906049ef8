"""`mslab doctor`: whether this machine can train. Gathers facts, times a training step, applies rules (diagnosis)."""
