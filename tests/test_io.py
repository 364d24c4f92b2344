import os
import struct
import zlib

import PIL.Image
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import (
    read_image,
    read_json,
    read_rows,
    read_text,
    replacing,
    write_bytes,
)


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


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffa bär".encode())
    assert read_text(tmp_path / "a.txt") == "a bär"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[1", "Expecting"), (b"[]", "list"), (b"\xff{}", "decode"), (b"[" * 10**5, "deeply")],
)
def test_what_is_no_json_object_says_why(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json")


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(OSError, match="no file"):
        read_json(tmp_path / "a.json")


def test_pictures_that_would_fill_the_memory_are_refused(tmp_path):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    data += struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 0) + b"IDAT"
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match="pixels"):
        read_image(tmp_path / "a.png")
    PIL.Image.new("L", (13_000, 13_000)).save(tmp_path / "gray.png")
    with pytest.raises(ValueError, match="13000 x 13000"):
        read_image(tmp_path / "gray.png")


def test_rows_that_are_none_are_left_out(tmp_path):
    lines = ['{"step": 1, "loss": 2.5}', '{"step": "2"}', '{"step": 3, "loss": []}', "[4]", '{"st']
    lines += ['{"step": 1' + "0" * 400 + "}"]
    (tmp_path / "rows.jsonl").write_bytes("\n".join(lines).encode() + b"\xff")
    assert read_rows(tmp_path / "rows.jsonl") == [{"step": 1, "loss": 2.5}, {"step": 3}]


def test_files_have_the_mode_that_the_umask_asks_for(tmp_path):
    write_bytes(tmp_path / "a.bin", b"")
    (tmp_path / "b.bin").write_bytes(b"")
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "b.bin").stat().st_mode


def test_what_a_killed_process_left_is_removed(tmp_path):
    old, new = tmp_path / ".a-abcdefgh.mp4", tmp_path / ".a-ijklmnop.mp4"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    write_bytes(tmp_path / "a.mp4", b"whole")
    assert not old.exists() and new.exists()
