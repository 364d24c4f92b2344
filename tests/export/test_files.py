import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.files import replacing, write_bytes


def test_writes_and_replaces(tmp_path):
    write_bytes(tmp_path / "new" / "a.bin", b"one")
    write_bytes(tmp_path / "new" / "a.bin", b"two")
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"two"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.bin"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    write_bytes(tmp_path / "a.bin", b"old")
    with pytest.raises(ValueError, match="stop"), replacing(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"half")
        raise ValueError("stop")
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"a\.bin.*No space"), replacing(tmp_path / "a.bin"):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder"):
        write_bytes(tmp_path / "file" / "a.bin", b"")
