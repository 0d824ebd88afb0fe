"""Downloads, from a server of our own."""

from __future__ import annotations

import gzip
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from napari_ectkd.errors import ConfigError, DataError, FileMissingError
from napari_ectkd.simulation import fetch as module
from napari_ectkd.simulation.density import find_densities, load_densities
from napari_ectkd.simulation.fetch import entry_file, fetch


class _Handler(SimpleHTTPRequestHandler):
    asked: list[str]

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.asked.append(self.path)
        if "9999" in self.path:  # a connection that breaks after half of the file
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 500)
            return
        super().do_GET()


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A server with an empty folder; return the folder and what was asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "archive"
    folder.mkdir()
    handler = type("Handler", (_Handler,), {"asked": []})
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(handler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(module, "PDB_URL", f"{base}/pdb")
    monkeypatch.setattr(module, "EMDB_URL", f"{base}/emdb")
    yield folder, handler.asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_entry_is_downloaded_once(archive, tmp_path, make_mrc):
    folder, asked = archive
    voxels = np.zeros((16, 16, 16), np.float32)
    voxels[5:11, 6:11, 5:10] = 1
    path = make_mrc(voxels, 10.0, "plain.mrc")
    place = folder / "emdb" / "EMD-1234" / "map" / "emd_1234.map.gz"
    place.parent.mkdir(parents=True)
    place.write_bytes(gzip.compress(path.read_bytes()))
    (density,) = load_densities([Path("emdb:1234")], 10.0)
    (plain,) = load_densities([path], 10.0)
    assert density.name == "emd_1234"
    np.testing.assert_array_equal(density.voxels, plain.voxels)
    assert asked == ["/emdb/EMD-1234/map/emd_1234.map.gz"]
    shutil.rmtree(folder)  # from now on there is none
    load_densities([Path("emdb:EMD-1234")], 10.0)
    assert len(asked) == 1
    kept = tmp_path / "cache" / "napari-ectkd" / "densities"
    assert [file.name for file in kept.iterdir()] == ["emd_1234.map.gz"]
    with gzip.open(kept / "emd_1234.map.gz") as stream:
        assert stream.read() == path.read_bytes()
    assert mrcfile.validate(path)


def test_atoms_of_the_pdb(archive, shared_data):
    import gemmi

    folder, _ = archive
    (folder / "pdb").mkdir()
    source = shared_data / "pdb" / "1s3x.pdb.gz"
    structure = gemmi.read_structure(str(source))
    structure.setup_entities()
    text = structure.make_mmcif_document().as_string()
    (folder / "pdb" / "1s3x.cif.gz").write_bytes(gzip.compress(text.encode()))
    fetched, direct = load_densities([Path("PDB:1S3X")], 10.0) + load_densities(
        [source], 10.0
    )
    assert fetched.name == "1s3x"
    np.testing.assert_allclose(fetched.voxels, direct.voxels, atol=1e-4)


def test_nothing_is_downloaded_to_know_the_names(archive):
    _, asked = archive
    entries = [Path("pdb:4v4r"), Path("emdb:1234")]
    assert find_densities(entries) == {"4v4r": entries[0], "emd_1234": entries[1]}
    assert not asked


def test_no_such_entry(archive, tmp_path):
    with pytest.raises(FileMissingError, match=r"no such entry.*check its number"):
        fetch(Path("pdb:1abc"))


def test_half_a_file_is_not_kept(archive, tmp_path):
    with pytest.raises(FileMissingError, match="cannot download"):
        fetch(Path("emdb:9999"))
    assert not list((tmp_path / "cache").rglob("*emd_*"))


def test_without_a_network(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PDB_URL", "http://127.0.0.1:9/pdb")
    with pytest.raises(FileMissingError) as caught:
        load_densities([Path("pdb:4v4r")], 10.0)
    text = str(caught.value)
    assert "http://127.0.0.1:9/pdb/4v4r.cif.gz" in text
    kept = tmp_path / "cache" / "napari-ectkd" / "densities" / "4v4r.cif.gz"
    assert "state the file" in text
    assert str(kept) in text
    assert "\n" not in text
    kept.write_bytes(gzip.compress(b"data_x\n"))  # as it says; then that is taken
    with pytest.raises(DataError, match="no atoms"):
        load_densities([Path("pdb:4v4r")], 10.0)


@pytest.mark.parametrize(
    "entry", ["pdb:", "pdb:abcd", "pdb:4v4r5", "emdb:12", "emdb:x"]
)
def test_what_is_no_entry(entry):
    with pytest.raises(ConfigError, match=r"as in (pdb:4v4r|emdb:1234)"):
        entry_file(Path(entry))
    assert entry_file(Path("maps/4v4r.mrc")) is None
