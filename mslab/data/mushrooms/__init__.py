"""Demo data, drawn and not downloaded: nine genera of mushrooms, and edible or poisonous, from a table of field marks.

    drawing.draw_datasets(Path("datasets"))  ->  datasets/mushrooms9/{train,val,test}/Agaricus/0001.jpg ...
                                                 datasets/mushrooms2/{train,val,test}/{edible,poisonous}/0001.jpg ...

These are drawings, no guide to real mushrooms: never eat one, and never trust one, because of them.
"""
