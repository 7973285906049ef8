"""Tables of the mushroom species, by genus and by edible or poisonous, and of the colours that they use."""

from typing import NamedTuple


class Species(NamedTuple):
    """One species, for students to edit: names are keys of SHAPES (shape.py), MARKS (marks.py) and PALETTE."""

    shape: str  # of the cap
    high: float  # height of the cap
    stem: tuple[float, float, float]  # radius at the top, radius at the base, length
    marks: str
    cap: str  # colours, one is chosen at random
    under: str  # colours of gills or pores
    foot: str  # colours of the stem


# fmt: off
PALETTE = {  # sRGB
    "white": (232, 224, 206), "cream": (222, 200, 152), "yellow": (222, 178, 62), "orange": (212, 120, 46),
    "red": (188, 48, 40), "wine": (122, 44, 58), "pink": (206, 140, 128), "violet": (122, 92, 142),
    "grey": (142, 136, 130), "olive": (126, 120, 62), "green": (112, 142, 84), "tan": (188, 146, 98),
    "brown": (132, 84, 50), "dark": (84, 56, 40), "rust": (160, 84, 36),
}
GENERA = {
    "Agaricus": Species("dome", 0.62, (0.22, 0.26, 1.5), "gills scales ring",
                        "white cream tan brown grey yellow", "dark brown pink", "white cream tan"),
    "Amanita": Species("dome", 0.62, (0.17, 0.26, 1.7), "gills warts ring volva",
                       "red brown grey yellow tan white olive orange", "white cream", "white cream yellow grey"),
    "Boletus": Species("dome", 0.66, (0.30, 0.50, 1.4), "pores net",
                       "brown tan dark red grey rust wine cream", "yellow cream olive white", "cream tan yellow red"),
    "Cortinarius": Species("bell", 0.60, (0.19, 0.32, 1.6), "gills belts cortina",
                           "violet brown rust olive orange tan red", "rust violet brown", "violet cream tan grey"),
    "Entoloma": Species("nipple", 0.70, (0.15, 0.17, 1.5), "gills silk fibres",
                        "grey brown violet tan dark cream green", "pink cream", "grey tan white violet"),
    "Hygrocybe": Species("cone", 0.90, (0.14, 0.15, 1.5), "wax gleam",
                         "red orange yellow green white wine pink", "yellow orange white", "yellow orange red cream"),
    "Lactarius": Species("funnel", 0.34, (0.24, 0.20, 1.3), "gills zones milk",
                         "orange tan brown grey red cream rust", "cream orange tan", "orange tan cream grey"),
    "Russula": Species("flat", 0.34, (0.26, 0.25, 1.3), "gills grooves",
                       "red violet green yellow wine brown pink orange", "white cream", "white cream pink"),
    "Suillus": Species("dome", 0.50, (0.20, 0.20, 1.4), "pores slime band dots",
                       "yellow brown orange rust tan red olive", "yellow olive", "yellow cream tan"),
}
EDIBLE = {
    "Cantharellus": Species("funnel", 0.42, (0.26, 0.17, 1.2), "ridges",
                            "yellow orange cream tan", "yellow orange", "yellow orange cream"),
    "Leccinum": Species("dome", 0.70, (0.22, 0.30, 1.8), "pores dots",
                        "orange brown tan grey rust", "cream white grey", "white grey cream"),
    "Imleria": Species("dome", 0.56, (0.24, 0.25, 1.4), "pores fibres",
                       "brown dark tan rust yellow", "yellow olive", "tan yellow brown"),
    "Butyriboletus": Species("dome", 0.60, (0.28, 0.42, 1.4), "pores net",
                             "brown olive tan orange red", "orange yellow", "yellow orange tan"),
}
POISONOUS = {
    "Amanita phalloides": Species("dome", 0.56, (0.16, 0.20, 1.8), "gills ring volva",
                                  "olive yellow white tan green", "white cream", "white cream"),
    "Amanita pantherina": Species("dome", 0.50, (0.17, 0.26, 1.7), "gills warts ring volva",
                                  "brown tan grey dark", "white", "white cream"),
    "Galerina": Species("bell", 0.55, (0.14, 0.15, 1.7), "gills grooves ring",
                        "rust tan brown orange yellow", "rust tan", "tan brown cream"),
    "Lepiota": Species("dome", 0.50, (0.15, 0.17, 1.6), "gills scales ring",
                       "cream tan pink brown white", "white cream", "cream pink white"),
}
# fmt: on
CLASSES: dict[str, dict[str, list[Species]]] = {
    "mushrooms9": {name: [species] for name, species in GENERA.items()},
    "mushrooms2": {"edible": list(EDIBLE.values()), "poisonous": list(POISONOUS.values())},
}
