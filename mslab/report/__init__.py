"""Output for people: the HTML report (writing, single, validation, several, charts, markup, translation), tables and
pictures of networks (show), curves (plots, watching), labels that are probably wrong (suspects, suspect_table), a run
in a notebook (notebook).
"""
