from tests.export.conftest import ball, make_scene, params  # noqa: F401
