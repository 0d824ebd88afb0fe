"""Learning: one loop, which knows of batches and an objective, and nothing of teachers.

`loop` drives a model through epochs, `objective` says what it strives for, `resume`
keeps what is needed to go on, `train` is the stage: from a data set to a run.
"""
