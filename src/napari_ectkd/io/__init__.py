"""Tomograms and picks, the two nouns, and the files they live in."""
