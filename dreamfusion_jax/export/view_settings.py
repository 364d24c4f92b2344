"""How `config.export` says that a finished scene is looked at."""

import math

import ml_collections


def view_settings(export: ml_collections.ConfigDict) -> dict[str, float]:
    """The keyword arguments elevation (radians), distance and focal of the renderers here."""
    return {
        "elevation": math.radians(export.elevation),
        "distance": export.distance,
        "focal": export.focal,
    }
