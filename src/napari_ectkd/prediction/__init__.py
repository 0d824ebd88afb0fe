"""A model used on picks, and on data sets.

`fit_for` says what a model and a tomogram disagree about, `judge` asks a model as its
user wants, `picks` classifies picks, `labeled` scores a model on a labeled data set.
"""
