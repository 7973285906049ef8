"""Demo data, drawn, not downloaded: nine genera of mushrooms, and edible or poisonous ones, from tables of field marks.

    drawing.draw_datasets(Path("datasets"))  ->  datasets/mushrooms9/{train,val,test}/Agaricus/0001.jpg ...
                                                 datasets/mushrooms2/{train,val,test}/{edible,poisonous}/0001.jpg ...

These are drawings, not a guide to real mushrooms: never use them to decide whether a mushroom is edible.
"""
