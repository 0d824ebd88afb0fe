from napari_ectkd.gui.tomogram_form import TomogramForm


def test_opening_says_that_picks_are_back(qtbot, session, some_picks):
    form = TomogramForm(session)
    qtbot.addWidget(form)
    said = []
    session.said.connect(lambda text, _: said.append(text))
    path = session.current.path
    session.set_picks("tomo", some_picks())
    session.save()
    session.viewer.layers.remove("tomo")
    form.open_paths([path])
    assert said[-1] == "Opened tomo; its 4 picks are back"
