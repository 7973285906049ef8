"""`mslab reproduce`: a run once more, from what it recorded, and whether its figures hold.

reproducing: differing (what is other than it was, before anything trains) -> the same functions that made the run ->
comparing (figures, epochs, steps, weights) -> telling (all of it in words). archiving packs what a run needs to be
repeated elsewhere, opening unpacks it, installing makes the environment it was made in; recipes: reproduce-all.
"""
