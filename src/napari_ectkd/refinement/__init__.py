"""From the hits of a sweep, corrected by a person, to a better model.

`corrections` reads what the person said, `refine` lets the model learn again.
"""
