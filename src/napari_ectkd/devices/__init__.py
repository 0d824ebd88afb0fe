"""The devices of a machine: which to take, in which precision, with what memory.

`choice` is the door. `kernels` says whether a device computes rightly, `cuda` what
torch and NVIDIA's driver say of each other.
"""
