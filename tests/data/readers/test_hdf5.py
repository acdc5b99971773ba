"""HDF5: nothing outside the file is read, and a file is not believed beyond what it stores."""

import numpy as np
import pytest

from ecg_transformers.data.errors import ECGDataError, LimitError, SignalError, UnsafePathError
from ecg_transformers.data.readers.hdf5 import hdf5_dataset, read_hdf5

h5py = pytest.importorskip("h5py")


def test_a_plain_dataset_is_read_in_parts(tmp_path):
    values = np.arange(24.0).reshape(4, 6)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("ecg", data=values, compression="gzip", shuffle=True, fletcher32=True)
    dataset = hdf5_dataset(tmp_path / "a.h5", tmp_path, "ecg", 2)
    np.testing.assert_array_equal(read_hdf5(dataset, 2, tmp_path / "a.h5"), values[2])


def external_link(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["secret"] = np.ones((2, 2))
    file["ecg"] = h5py.ExternalLink(str(folder / "other.h5"), "/secret")


def soft_link(file, folder):
    file["real"] = np.ones((2, 2))
    file["ecg"] = h5py.SoftLink("/real")


def external_storage(file, folder):
    (folder / "passwords").write_bytes(b"x" * 64)
    file.create_dataset("ecg", (8, 8), dtype="u1", external=[(str(folder / "passwords"), 0, 64)])


def virtual(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["secret"] = np.ones((2, 2))
    layout = h5py.VirtualLayout((2, 2), "f8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "secret", (2, 2))
    file.create_virtual_dataset("ecg", layout)


@pytest.mark.parametrize("make", [external_link, soft_link, external_storage, virtual])
def test_what_leads_out_of_the_file_is_refused(tmp_path, make):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file, tmp_path)
    with pytest.raises(UnsafePathError, match=r"a\.h5"):
        hdf5_dataset(tmp_path / "a.h5", tmp_path, "ecg", 2)


def test_a_file_that_declares_far_more_than_it_stores_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("ecg", (10**9, 4096, 12), dtype="f4", chunks=(1, 4096, 12))
    with pytest.raises(LimitError, match="declares"):
        hdf5_dataset(tmp_path / "a.h5", tmp_path, "ecg", 3)


@pytest.mark.parametrize("value", ["text", np.zeros(3), None])
def test_another_kind_of_dataset_is_named(tmp_path, value):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if value is None:
            file.create_group("ecg")
        else:
            file["ecg"] = value
    with pytest.raises(SignalError, match="ecg"):
        hdf5_dataset(tmp_path / "a.h5", tmp_path, "ecg", 2)


def test_a_damaged_file_is_an_error_that_names_it(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(
            "ecg", data=np.random.default_rng(0).normal(size=(64, 64)), compression="gzip", fletcher32=True
        )
    content = bytearray((tmp_path / "a.h5").read_bytes())
    for cut in (20, 200, len(content) // 2):
        (tmp_path / f"cut{cut}.h5").write_bytes(content[:cut])
        with pytest.raises(ECGDataError, match=f"cut{cut}"):
            hdf5_dataset(tmp_path / f"cut{cut}.h5", tmp_path, "ecg", 2)
    content[-2000:-1000] = bytes(1000)
    (tmp_path / "bits.h5").write_bytes(content)
    with pytest.raises(ECGDataError, match="bits"):
        read_hdf5(hdf5_dataset(tmp_path / "bits.h5", tmp_path, "ecg", 2), slice(None), tmp_path / "bits.h5")


def test_a_link_on_the_disk_that_leads_elsewhere_is_refused(tmp_path):
    (tmp_path / "corpus").mkdir()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["ecg"] = np.ones((2, 2))
    (tmp_path / "corpus" / "a.h5").symlink_to(tmp_path / "a.h5")
    with pytest.raises(UnsafePathError):
        hdf5_dataset(tmp_path / "corpus" / "a.h5", tmp_path / "corpus", "ecg", 2)
