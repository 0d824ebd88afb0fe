"""Networks by name: teachers, students, and the checkpoint file they live in.

`registry` knows the names and is light; `teachers` and `students` hold the networks,
`checkpoint` writes and reads them, `cost` counts and times them.
"""
