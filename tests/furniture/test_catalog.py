import io
import lzma
import shutil
import tarfile
import tempfile
import zipfile

import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture.catalog import open_source, parse_properties

PROPERTIES = """# a comment with name#9=nothing
id=Tiny#Catalog
name#1=Caf\\u00e9 table
tags#1=Blend Swap, Table, \\
  Round
category#1=Exterior
model#1=/tiny/table/table.obj
modelRotation#1=0 0 1 0 1 0 -1 0 0
width#1=80.5
depth#1=60
height#1=75.0
creator#1=Someone
name#2=Not there
model#2=/tiny/gone/gone.obj
width#2=1
depth#2=1
height#2=1
"""


@pytest.fixture
def catalog(tmp_path):
    folder = tmp_path / "catalogs" / "BlendSwap-CC-BY"
    (folder / "tiny" / "table").mkdir(parents=True)
    (folder / "tiny" / "table" / "table.obj").write_text("v 0 0 0\n")
    path = folder / "PluginFurnitureCatalog.properties"
    path.write_text(PROPERTIES, encoding="latin-1")
    return folder


def check(entries):
    (entry,) = entries  # the second one has no model file
    assert entry.uid == "BlendSwap-CC-BY/table"
    assert entry.name == "Café table"
    assert entry.tags == ("Table", "Round")
    assert entry.rotation == (0, 0, 1, 0, 1, 0, -1, 0, 0)
    assert (entry.width, entry.depth, entry.height) == (80.5, 60.0, 75.0)
    assert (entry.creator, entry.license) == ("Someone", "CC-BY-3.0")
    assert entry.model.is_file()


def test_properties_with_escapes_continuations_and_latin_1():
    parsed = parse_properties("name#12=l\\u00e9 \xe9\r\ntags#12 : a,\\\r\n   b\nid=x\n#name#1=y")
    assert parsed == {12: {"name": "lé é", "tags": "a,b"}}


def test_unpacked_folder(catalog):
    check(open_source(catalog.parent))


def test_zipped_folder_and_deb(catalog, tmp_path):
    sh3f = tmp_path / "zipped" / "BlendSwap-CC-BY.sh3f"
    sh3f.parent.mkdir()
    with zipfile.ZipFile(sh3f, "w") as archive:
        for path in catalog.rglob("*.*"):
            archive.write(path, path.relative_to(catalog))
    check(open_source(sh3f.parent))

    tarball = io.BytesIO()
    with tarfile.open(fileobj=tarball, mode="w:xz") as archive:
        archive.add(sh3f, "./usr/share/sweethome3d/furniture/BlendSwap-CC-BY.sh3f")
    deb = tmp_path / "furniture.deb"
    deb.write_bytes(ar({"debian-binary": b"2.0\n\n", "data.tar.xz": tarball.getvalue()}))
    # What an earlier attempt has left half unpacked does not count.
    shutil.copytree(catalog.parent, tmp_path / "cache.part")
    check(open_source(deb, cache=tmp_path / "cache"))
    deb.write_bytes(b"!<arch>\n")  # the second time the cache answers
    check(open_source(deb, cache=tmp_path / "cache"))


def ar(members: dict[str, bytes]) -> bytes:
    content = b"!<arch>\n"
    for name, data in members.items():
        content += f"{name + '/':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
        content += data + b"\n" * (len(data) % 2)
    return content


def test_errors_say_how_to_get_the_package(tmp_path):
    (tmp_path / "note.deb").write_text("this is text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "short.deb").write_bytes(b"!<arch>\ndata.tar")
    (tmp_path / "cut.deb").write_bytes(ar({"data.tar.xz": lzma.compress(bytes(99999))[:50]}))
    (tmp_path / "new.deb").write_bytes(ar({"data.tar.zst": b"(\xb5/\xfd" + bytes(99)}))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.sh3f").write_bytes(b"PK")
    for name in ("missing.deb", "note.deb", "empty", "short.deb", "cut.deb", "new.deb", "bad"):
        with pytest.raises(UserError, match="apt-get download"):
            open_source(tmp_path / name, cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("model#1=../../../secret.obj", "outside of the catalog"),
        ("width#1=nan", "no lengths"),
        ("depth#1=-3", "no lengths"),
        ("height#1=tall", "tall"),
        ("modelRotation#1=1 0 0", "no matrix"),
    ],
)
def test_entries_that_make_no_sense_are_named(catalog, line, message):
    path = catalog / "PluginFurnitureCatalog.properties"
    path.write_text(PROPERTIES + line + "\n", encoding="latin-1")
    with pytest.raises(UserError, match=f"entry 1 .*{message}"):
        open_source(catalog.parent)


def test_a_package_is_unpacked_in_the_users_own_cache_by_its_content(
    catalog, tmp_path, monkeypatch
):
    monkeypatch.setenv("DREAMFUSION_CACHE", str(tmp_path / "own"))
    stray = tmp_path / "tmp" / "dreamfusion_furniture" / "BlendSwap-CC-BY"
    shutil.copytree(catalog, stray)  # what others can put into the shared temporary folder
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in catalog.rglob("*.*"):
            archive.write(path, path.relative_to(catalog))
    tarball = io.BytesIO()
    with tarfile.open(fileobj=tarball, mode="w:xz") as archive:
        member = tarfile.TarInfo("./usr/BlendSwap-CC-BY.sh3f")
        member.size = len(packed.getvalue())
        archive.addfile(member, io.BytesIO(packed.getvalue()))
    deb = tmp_path / "furniture.deb"
    deb.write_bytes(ar({"data.tar.xz": tarball.getvalue()}))
    check(entries := open_source(deb))
    assert entries[0].model.is_relative_to(tmp_path / "own")
