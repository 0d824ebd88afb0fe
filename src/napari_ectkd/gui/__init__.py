"""The window: the only folder that may import napari or Qt.

`session` is what the panels of a viewer share, `layers` turns tomograms and picks into
layers and back, `jobs` runs commands as processes; forms and tables edit one thing
each, `*_panel` has a panel a task, and `studio` joins them. `contributions` is what
napari's manifest names, `view` opens a window from the command line.
"""

from napari_ectkd.gui.triton_guard import keep_triton_out

keep_triton_out()
