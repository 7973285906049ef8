"""`mslab serve`: a page and an endpoint that classify images on this machine; nothing leaves it.

server: every request, from start to end; predictor: the network behind it; limits: sizes, times, the refusal error.
"""
