import dreamfusion_jax
from dreamfusion_jax import UserError, errors


def test_every_public_name_is_there_and_documented():
    assert UserError is errors.UserError
    assert len(set(dreamfusion_jax.__all__)) == len(dreamfusion_jax.__all__)
    assert set(dreamfusion_jax.__all__) <= set(dir(dreamfusion_jax))
    for name in dreamfusion_jax.__all__:
        assert getattr(dreamfusion_jax, name).__doc__, name


def test_no_other_name_is_made_up():
    assert not hasattr(dreamfusion_jax, "regenerate")
