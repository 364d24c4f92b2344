"""`dreamfusion export`."""

import argparse

from dreamfusion_jax.cli.options import add_step

SUMMARY = "write the mesh of a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("workdir", help="folder of a run")
    parser.add_argument(
        "--out",
        help=".glb or .obj (textured), .ply (vertex colors) or .stl (default: WORKDIR/mesh.glb)",
    )
    parser.add_argument("--resolution", type=int, help="grid points along an edge (default: 128)")
    parser.add_argument("--triangles", type=int, help="budget; 0: all (default: 20000)")
    parser.add_argument(
        "--texture",
        dest="texture_size",
        metavar="PIXELS",
        type=int,
        help="of the texture's side (default: 1024)",
    )
    parser.add_argument(
        "--mm",
        dest="millimeters",
        metavar="MM",
        type=float,
        help="longest side of an .stl file (default: 100)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        help="density of the surface (default: where the transmittance of rays falls to one half)",
    )
    parser.add_argument(
        "--centered",
        action="store_true",
        help="keep the scene's origin, the object's middle; else a .glb, .obj or .stl stands on 0",
    )
    add_step(parser)


def run(options: argparse.Namespace) -> None:
    """Write the mesh, and print where."""
    from dreamfusion_jax import api
    from dreamfusion_jax.io import local_path

    how = vars(options)
    out = how.pop("out", "") or local_path(options.workdir) / "mesh.glb"
    print(api.export_mesh(how.pop("workdir"), out, progress=True, **how))
