"""mslab tune-batch."""
