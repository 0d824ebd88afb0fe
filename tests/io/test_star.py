import numpy as np
import pandas as pd
import pytest
import starfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_ectkd.errors import (
    ConfigError,
    EctkdError,
    FileMissingError,
    FormatError,
    VoxelSizeError,
    WriteError,
)
from napari_ectkd.io.picks import Picks, join_picks
from napari_ectkd.io.star import is_star_with_coordinates, read_picks, write_picks

XYZ = ["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"]


def star(path, columns, rows, block="particles", before=""):
    """Write a STAR file by hand, values as they are given."""
    lines = [before, f"data_{block}", "", "loop_", *(f"_{name}" for name in columns)]
    path.write_text("\n".join([*lines, *rows, ""]), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "picks.star"


def assert_equal(ours, theirs, places=1e-3):
    np.testing.assert_allclose(ours.positions, theirs.positions, atol=places)
    for name in ("tomogram", "label", "prediction", "pick_id"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    np.testing.assert_allclose(ours.confidence, theirs.confidence, atol=1e-6)
    np.testing.assert_allclose(ours.angles, theirs.angles, atol=1e-5)
    for name in ("probabilities", "foreign"):
        one, other = getattr(ours, name), getattr(theirs, name)
        assert list(one) == list(other)
        assert one.to_numpy().tolist() == other.to_numpy().tolist()


NAMES = [
    "80S ribosome",
    "β-galactosidase",
    'a "quoted" one',
    "5' end",
    "50 %",
    "#3",
    "<empty>",
    "",
    "none",
    "nan",
    "NaN",
    "001",
    "NA",
    "a\tb",
]


def test_every_kind_of_class_name_comes_back(file):
    n = len(NAMES)
    table = pd.DataFrame(np.eye(n), columns=NAMES)
    picks = Picks.create(
        np.random.default_rng(0).uniform(-5, 4000, (n, 3)),
        [f"TS '{i}' #{i}" for i in range(n)],
        label=NAMES,
        angles=np.random.default_rng(1).uniform(-180, 180, (n, 3)),
        pick_id=np.arange(n) * 7 + 3,
    ).with_predictions(table)
    write_picks(file, picks, 10.52)
    assert_equal(read_picks(file), picks)


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3),
            st.text(st.characters(exclude_categories=["Cs", "Zl", "Zp"])),
        ),
        max_size=6,
    ),
    st.floats(0.5, 50),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=40,
    deadline=None,
)
def test_picks_come_back_equal(file, rows, voxel_size):
    picks = Picks.create(
        np.array([position for position, _ in rows]).reshape(-1, 3),
        [f"data_{label}" for _, label in rows],
        label=[label for _, label in rows],
    )
    write_picks(file, picks, voxel_size)
    assert_equal(read_picks(file), picks)


def test_no_picks_come_back_as_no_picks(file):
    write_picks(file, Picks.empty(), 10)
    assert len(read_picks(file)) == 0
    none = Picks.empty().with_predictions(pd.DataFrame({"a": [], "b": []}))
    write_picks(file, none, 10)
    assert list(read_picks(file).probabilities) == ["a", "b"]


def test_what_we_write_reads_with_starfile(file):
    picks = Picks.create([[30, 20, 10]], "001", label="a b")
    write_picks(file, picks, {"001": 5.0})
    table = starfile.read(file, parse_as_string=["rlnTomoName"])
    assert table.loc[0, [*XYZ, "rlnPixelSize"]].tolist() == [2, 4, 6, 5]
    assert table.loc[0, ["rlnTomoName", "ectkdLabel"]].tolist() == ["001", "a b"]


def test_the_same_picks_are_the_same_bytes(file, monkeypatch):
    picks = Picks.create([[30, 20, 10]], "t")
    write_picks(file, picks, 5)
    first = file.read_bytes()
    monkeypatch.setattr("starfile.writer.package_info", lambda: "# at another time")
    write_picks(file, picks, 5)
    assert file.read_bytes() == first


def test_each_tomogram_has_its_voxel_size(file):
    picks = Picks.create([[30, 20, 10], [30, 20, 10]], ["a", "b"])
    write_picks(file, picks, {"a": 5, "b": 10, "c": 3})
    assert starfile.read(file)["rlnCoordinateX"].tolist() == [2, 1]
    assert_equal(read_picks(file), picks)
    with pytest.raises(ConfigError, match="no voxel size for tomogram 'b'"):
        write_picks(file, picks, {"a": 5})


def test_an_integer_is_the_center_of_a_voxel(file):
    star(file, XYZ, ["0 1 2"])
    assert read_picks(file, voxel_size=10).positions.tolist() == [[20, 10, 0]]


def test_origins_are_subtracted(file):
    columns = [*XYZ, "rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst"]
    star(file, columns, ["1 2 3 0.5 -4 7"])
    picks = read_picks(file, voxel_size=10)
    np.testing.assert_allclose(picks.positions, [[23, 24, 9.5]])
    assert picks.foreign.shape == (1, 0)
    write_picks(file, picks, 10)
    assert_equal(read_picks(file), picks)


def test_foreign_columns_stay_as_they_were_when_picks_by_hand_join_them(tmp_path):
    foreign = ["rlnOpticsGroup", "rlnLCCmax", "rlnId"]
    rows = ["1 2 3 1 0.25 001", "4 5 6 2 0.125 002"]
    source = star(tmp_path / "theirs.star", [*XYZ, *foreign], rows)
    by_hand = Picks.create([[7, 8, 9]])
    joined = join_picks([read_picks(source, voxel_size=2), by_hand])
    write_picks(tmp_path / "joined.star", joined, 2)
    written = starfile.read(tmp_path / "joined.star", parse_as_string=foreign)
    table = written.fillna("nan")
    assert table["rlnOpticsGroup"].tolist() == ["1", "2", "nan"]
    assert table["rlnLCCmax"].tolist() == ["0.25", "0.125", "nan"]
    assert table["rlnId"].tolist() == ["001", "002", "nan"]


def test_foreign_columns_come_back_as_they_were(file):
    columns = [*XYZ, "rlnPixelSize", "wrpA", "rlnClassNumber", "rlnLCCmax", "c", "d"]
    rows = ["1 2 3 4 007 1 0.250000 1.50 x", "5 6 7 4 a 2 0.125000 3 'two words'"]
    star(file, columns, rows)
    picks = read_picks(file)
    assert picks.foreign["rlnClassNumber"].tolist() == [1, 2]
    assert picks.foreign["rlnLCCmax"].tolist() == [0.25, 0.125]
    write_picks(file, picks, 4)
    table = starfile.read(file, parse_as_string=columns)
    expected = [
        ["007", "1", "0.250000", "1.50", "x"],
        ["a", "2", "0.125000", "3", "two words"],
    ]
    assert table[columns[4:]].to_numpy().tolist() == expected


def test_angles_need_all_three(file):
    star(file, [*XYZ, "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"], ["1 2 3 10 20 30"])
    picks = read_picks(file, voxel_size=2)
    assert picks.angles.tolist() == [[10, 20, 30]]
    assert list(picks.foreign) == []
    star(file, [*XYZ, "rlnAngleRot"], ["1 2 3 10"])
    picks = read_picks(file, voxel_size=2)
    assert np.isnan(picks.angles).all()
    assert picks.foreign["rlnAngleRot"].tolist() == [10]


def test_tomogram_names(file):
    star(file, [*XYZ, "rlnTomoName"], ["1 2 3 001"])
    assert read_picks(file, voxel_size=2).tomogram.tolist() == ["001"]
    star(file, [*XYZ, "rlnTomoName"], ["1 2 3 50%25"])  # not ours: nothing to unescape
    assert read_picks(file, voxel_size=2).tomogram.tolist() == ["50%25"]
    star(file, [*XYZ, "rlnMicrographName"], ["1 2 3 tomos/TS_01.mrc"])
    picks = read_picks(file, voxel_size=2)
    assert picks.tomogram.tolist() == ["TS_01"]
    assert picks.foreign["rlnMicrographName"].tolist() == ["tomos/TS_01.mrc"]
    star(file, XYZ, ["1 2 3"])
    assert read_picks(file, voxel_size=2).tomogram.tolist() == [""]


@pytest.mark.parametrize("block", ["particles", "", "images"])
def test_blocks(file, block):
    star(file, XYZ, ["1 2 3"], block)
    assert len(read_picks(file, voxel_size=2)) == 1


OPTICS = "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnTomoTiltSeriesPixelSize\n"


def test_voxel_sizes_of_the_file(file):
    star(file, [*XYZ, "rlnPixelSize"], ["1 0 0 4", "1 0 0 5"])
    assert read_picks(file).positions[:, 2].tolist() == [4, 5]
    assert read_picks(file, voxel_size=3).positions[:, 2].tolist() == [3, 3]
    star(file, [*XYZ, "rlnDetectorPixelSize"], ["1 0 0 6"])
    assert read_picks(file).positions[:, 2].tolist() == [6]
    star(file, XYZ, ["1 0 0"], before=f"{OPTICS}1 2.5\n\n")
    assert read_picks(file).positions[:, 2].tolist() == [2.5]
    columns = [*XYZ, "rlnOpticsGroup"]
    groups = f"{OPTICS}1 2.5\n2 3.5\n\n"
    star(file, columns, ["1 0 0 2", "1 0 0 1"], before=groups)
    assert read_picks(file).positions[:, 2].tolist() == [3.5, 2.5]
    star(file, columns, ["1 0 0 3"], before=groups)
    with pytest.raises(VoxelSizeError, match="nan Å per voxel cannot be right"):
        read_picks(file)


def test_a_missing_voxel_size_is_asked_for(file):
    star(file, XYZ, ["1 2 3"])
    with pytest.raises(
        VoxelSizeError, match=r"picks.star: does not say .*--voxel-size"
    ):
        read_picks(file)


@pytest.mark.parametrize("size", ["0", "-4", "1e6", "nan"])
def test_an_absurd_voxel_size_is_an_error(file, size):
    star(file, [*XYZ, "rlnPixelSize"], [f"1 2 3 {size}"])
    with pytest.raises(VoxelSizeError, match="cannot be right"):
        read_picks(file)
    with pytest.raises(ConfigError, match=r"outside .* to 200 Å"):
        read_picks(file, voxel_size=float(size))


def test_labels_of_another_program(file):
    star(file, [*XYZ, "rlnClassNumber", "type"], ["1 2 3 01 80S", "1 2 3 2 50%25"])
    labels = read_picks(file, voxel_size=2, label_column="rlnClassNumber").label
    assert labels.tolist() == ["01", "2"]
    labels = read_picks(file, voxel_size=2, label_column="type").label
    assert labels.tolist() == ["80S", "50%25"]
    with pytest.raises(
        ConfigError, match=r"picks.star: no column Type; it has .* type"
    ):
        read_picks(file, voxel_size=2, label_column="Type")


def test_pasted_files_are_numbered_anew(file):
    star(file, [*XYZ, "ectkdPickId"], ["1 2 3 5", "1 2 3 5"])
    assert read_picks(file, voxel_size=2).pick_id.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a STAR file"),
        ("hello\nworld\n", "not a STAR file"),
        ("data_\n", "no columns in it"),
        ("data_particles\n1 2 3\n", "no columns in it"),
        ("data_particles\n\nloop_\n1 2 3\n", "no columns in it"),
        ("data_particles\n\nloop_\n_rlnCoordinateX #1\n", "no particles"),
        ("data_particles\n\nloop_\n_rlnFoo\n1\n", "no column rlnCoordinateZ.*rlnFoo"),
        (
            "data_particles\n\nloop_\n_rlnCenteredCoordinateXAngst\n1\n",
            "centered coordinates of RELION 5",
        ),
    ],
)
def test_a_file_without_picks_is_one_line(file, text, message):
    file.write_text(text)
    with pytest.raises(FormatError, match=message) as error:
        read_picks(file, voxel_size=2)
    assert str(error.value).startswith("picks.star: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1 2 x", "is not a number"),
        ("1 2 nan", "of particle 2 is NaN or infinite"),
        ("1 2 inf", "of particle 2 is NaN or infinite"),
        ("1 2 3 4 5", "not a readable STAR file"),
    ],
)
def test_a_broken_row_is_one_line(file, row, message):
    star(file, XYZ, ["1 2 3", row])
    with pytest.raises(FormatError, match=message) as error:
        read_picks(file, voxel_size=2)
    assert "\n" not in str(error.value)


def test_binary_and_missing_files(file, tmp_path):
    file.write_bytes(b"data_" + bytes(range(256)))
    with pytest.raises(FormatError, match="not a readable STAR file"):
        read_picks(file)
    with pytest.raises(FileMissingError, match="no such file"):
        read_picks(tmp_path / "missing.star")


@given(st.text("data_lop\n\t rlnCoieXYZ123#'\".-", max_size=120))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=100,
    deadline=None,
)
def test_no_text_is_a_bug(file, text):
    file.write_text(f"data_particles\n{text}\n")
    try:
        read_picks(file, voxel_size=2)
    except EctkdError:
        return


def test_a_star_file_with_coordinates_is_recognized(file, tmp_path):
    star(file, XYZ, ["1 2 3"])
    assert is_star_with_coordinates(file)
    star(file, ["rlnFoo"], ["1"])
    assert not is_star_with_coordinates(file)
    assert not is_star_with_coordinates(tmp_path / "missing.star")


def test_a_file_that_cannot_be_written(file):
    file.write_text("a file, where a folder would have to be")
    with pytest.raises(WriteError, match=r"cannot write .*below.star"):
        write_picks(file / "below.star", Picks.empty(), 1)


def test_picks_without_a_number_are_numbered_anew(tmp_path):
    path = tmp_path / "picks.star"
    table = pd.DataFrame(
        {
            "rlnCoordinateX": [1.0, 2.0],
            "rlnCoordinateY": [1.0, 2.0],
            "rlnCoordinateZ": [1.0, 2.0],
            "rlnPixelSize": [10.0, 10.0],
            "ectkdPickId": ["7", "nan"],
        }
    )
    starfile.write({"particles": table}, path)
    assert list(read_picks(path).pick_id) == [1, 2]
