"""Reads the furniture catalogs of Debian's `sweethome3d-furniture` package.

The package holds five `.sh3f` zip files. Each has a `PluginFurnitureCatalog.properties`
(Java properties: Latin-1 with \\u escapes, keys `field#number`) and OBJ models with
textures. Nothing here needs root: a `.deb` is an `ar` archive around a tar file.
"""

import dataclasses
import lzma
import math
import pathlib
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import cache_folder
from dreamfusion_jax.pretrained.embedding_cache import file_digest

PROPERTIES = "PluginFurnitureCatalog.properties"
_PART = ".part"  # ends the name of a folder that is being unpacked
_MOST_BYTES = 4 * 1024**3  # of an archive, unpacked
_LARGEST = 1e6  # centimeters
HOW_TO_GET = (
    "get it with `apt-get download sweethome3d-furniture` (no root needed) and pass the "
    "path of the .deb file"
)
LICENSES = {
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0-US",
    "Reallusion": "CC-BY-3.0-US",
    "Scopia": "CC-BY-3.0",
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One object of a catalog.

    `rotation` is applied to the vertices of the OBJ file (row-major 3x3); afterwards the
    object is stretched to `width` (x), `height` (y) and `depth` (z), in centimeters.
    `uid` is stable: the catalog's folder and the name of the model file.
    """

    uid: str
    name: str
    tags: tuple[str, ...]
    category: str
    creator: str
    license: str
    model: pathlib.Path
    rotation: tuple[float, ...]
    width: float
    depth: float
    height: float


def open_source(source: str | pathlib.Path, cache: str | pathlib.Path | None = None) -> list[Entry]:
    """Return all entries of a `.deb` file, or of a folder that holds the catalogs.

    Args:
      source: the `.deb`, or a folder with `.sh3f` files or with unpacked catalogs.
      cache: where a `.deb` is unpacked to (kept and used again); default: a folder in the user's
        cache, named by a digest of the file.

    Raises:
      UserError: `source` is missing or holds no catalog.
    """
    source = pathlib.Path(source).expanduser()
    if not source.exists():
        raise UserError(f"The furniture package {source} does not exist: {HOW_TO_GET}.")
    if source.is_file():
        own = cache_folder() / "furniture" / file_digest(source)[:16]
        folder = pathlib.Path(cache) if cache else own
        if not _catalogs(folder):
            _whole(unpack_deb, source, folder)
    elif _catalogs(source):
        folder = source
    else:
        folder = pathlib.Path(cache) if cache else source / "unpacked"
        _whole(unpack_catalogs, source, folder)
    found = _catalogs(folder)
    if not found:
        raise UserError(f"{source} holds no furniture catalog: {HOW_TO_GET}.")
    return [entry for path in found for entry in read_catalog(path)]


def _catalogs(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the catalogs in a folder, but for what is only half unpacked."""
    found = sorted(folder.rglob(PROPERTIES))
    return [p for p in found if not any(n.endswith(_PART) for n in p.relative_to(folder).parts)]


def _whole(unpack: Callable, source: pathlib.Path, folder: pathlib.Path) -> None:
    """Unpack into a folder that is complete or not there.

    Raises UserError where the source is damaged.
    """
    part = folder.with_name(folder.name + _PART)
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        unpack(source, part)
    except (*_DAMAGED, OSError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise UserError(f"{source} is cut short or damaged ({error}): {HOW_TO_GET}.") from error
    if part.is_dir():  # there was something to unpack
        part.replace(folder)


# What the archives' readers raise: NotImplementedError for a compression that they do not know,
# RuntimeError for a password.
_DAMAGED = (
    *(EOFError, ValueError, IndexError, lzma.LZMAError, zlib.error, tarfile.TarError),
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError),
)


def unpack_deb(deb: pathlib.Path, folder: pathlib.Path) -> None:
    """Unpack the catalogs of a Debian package into `folder`, one sub-folder each."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch_folder = pathlib.Path(scratch)
        tarball = _ar_member(deb, "data.tar", scratch_folder)
        with tarfile.open(tarball) as archive:
            members = [m for m in archive.getmembers() if m.name.endswith(".sh3f")]
            if sum(member.size for member in members) > _MOST_BYTES:
                raise ValueError(f"it would take more than {_MOST_BYTES:,} bytes")
            archive.extractall(scratch_folder, members=members, filter="data")
        unpack_catalogs(scratch_folder, folder)


def unpack_catalogs(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Unpack every `.sh3f` file found under `source` into `folder/<its name>/`."""
    for path in sorted(source.rglob("*.sh3f")):
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
                raise ValueError(f"{path.name} would take more than {_MOST_BYTES:,} bytes")
            archive.extractall(folder / path.stem)


def _ar_member(path: pathlib.Path, prefix: str, folder: pathlib.Path) -> pathlib.Path:
    """Copy the member of an `ar` archive whose name starts with `prefix` to `folder`."""
    with path.open("rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise UserError(f"{path} is not a Debian package: {HOW_TO_GET}.")
        while header := file.read(60):
            name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
            if size < 0:
                break
            if name.startswith(prefix):
                out = folder / name
                out.write_bytes(file.read(size))
                return out
            file.seek(size + size % 2, 1)
    raise UserError(f"The Debian package {path} is cut short or damaged: {HOW_TO_GET}.")


def parse_properties(text: str) -> dict[int, dict[str, str]]:
    """`field#number=value` lines, as {number: {field: value}} with the escapes resolved."""
    entries: dict[int, dict[str, str]] = {}
    for line in re.sub(r"\\\r?\n[ \t]*", "", text).splitlines():
        match = re.match(r"\s*(\w+)#(\d+)\s*[=:]\s*(.*)", line)
        if match:
            field, number, value = match.groups()
            value = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), value)
            entries.setdefault(int(number), {})[field] = value.strip()
    return entries


def read_catalog(path: pathlib.Path) -> list[Entry]:
    """Return the entries of one `PluginFurnitureCatalog.properties` whose model file exists."""
    parsed = parse_properties(path.read_text(encoding="latin-1"))
    entries = []
    for number, fields in sorted(parsed.items()):
        try:
            entries.append(_entry(path.parent, fields))
        except (KeyError, ValueError, OSError) as error:
            raise UserError(
                f"The entry {number} of the catalog {path} is damaged ({error!r}): {HOW_TO_GET}."
            ) from error
    return [entry for entry in entries if entry.model.is_file()]


def _entry(folder: pathlib.Path, fields: dict[str, str]) -> Entry:
    model = folder / fields["model"].lstrip("/")
    if not model.resolve().is_relative_to(folder.resolve()):
        raise ValueError("its model lies outside of the catalog")
    tags = (tag.strip() for tag in fields.get("tags", "").split(","))
    identity = "1 0 0 0 1 0 0 0 1"
    rotation = tuple(map(float, fields.get("modelRotation", identity).split()))
    sides = [float(fields[name]) for name in ("width", "depth", "height")]
    if len(rotation) != 9 or not all(map(math.isfinite, rotation)):
        raise ValueError("its rotation is no matrix")
    if not all(0 < side < _LARGEST for side in sides):
        raise ValueError("its sides are no lengths")
    return Entry(
        uid=f"{folder.name}/{model.stem}",
        name=fields["name"],
        tags=tuple(tag for tag in tags if tag and tag != "Blend Swap"),
        category=fields.get("category", ""),
        creator=fields.get("creator", ""),
        license=LICENSES.get(folder.name, "see the catalog"),
        model=model,
        rotation=rotation,
        width=sides[0],
        depth=sides[1],
        height=sides[2],
    )
