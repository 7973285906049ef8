"""Predictions of a trained network: predicting (files), export and graphs (MINDIR, ONNX), serve (page and endpoint)."""
