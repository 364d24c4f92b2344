"""Makes the data set: `python -m dreamfusion_jax.furniture.captioned_furniture --help`."""

import argparse
import sys
import zlib

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture.captioned_furniture import (
    captioned_furniture_dataset_builder as made,
)


def main() -> None:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=made.__doc__)
    parser.add_argument("--source", required=True, help="the .deb file or its unpacked catalogs")
    parser.add_argument("--data_dir", required=True, help="where the data set is written")
    parser.add_argument("--config", default="all", choices=[c.name for c in _configs()])
    parser.add_argument("--views", type=int, help="views of each object, instead of the config's")
    parser.add_argument("--nouns", help="comma separated, instead of the config's objects")
    a = parser.parse_args()
    try:
        print(build(a.source, a.data_dir, a.config, a.views, a.nouns))
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def build(source: str, data_dir: str, config: str, views: int | None, nouns: str | None):
    """Render and writes the data set; returns its folder."""
    if views is not None and views < 2:
        raise UserError(f"--views={views} leaves none to train on: the first is held out.")
    chosen: str | made.Config = config
    if views or nouns:  # another data set, beside those of the named configs
        base = next(c for c in _configs() if c.name == config)
        views, nouns = views or base.views, nouns or base.nouns
        name = f"{config}_{views}_{zlib.crc32(nouns.encode()):08x}"
        about = f"{base.description}; {views} views; objects: {nouns or 'all'}"
        chosen = made.Config(name=name, description=about, views=views, nouns=nouns)
    builder = made.Builder(
        source=source, config=chosen, data_dir=data_dir, file_format="array_record"
    )
    builder.download_and_prepare()
    return builder.data_path


def _configs():
    return made.Builder.BUILDER_CONFIGS


if __name__ == "__main__":
    main()
