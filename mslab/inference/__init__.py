"""Answers of a trained network: predicting (files), export and graphs (without mslab), serve (page and endpoint)."""
