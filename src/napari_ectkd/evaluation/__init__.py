"""Classed picks against a truth: matching by distance, and the numbers that follow."""
