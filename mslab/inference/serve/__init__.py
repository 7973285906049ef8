"""`mslab serve`: a page and an endpoint that say what images show. For this machine; nothing leaves it.

server: every request, from top to bottom; predictor: the network behind it; limits: how much of anything is taken.
"""
