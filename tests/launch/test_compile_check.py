import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

TPU = pathlib.Path(__file__).parents[2] / "launch" / "tpu"

PROGRAM = """HloModule step

%body (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %fusion.1 = f32[8]{0} fusion(%p), metadata={op_name="jit(f)/render/add"}, backend_config={"estimated_cycles":"10"}
}

%condition (p: f32[8]) -> pred[] {
  ROOT %c = pred[] constant(true)
}

%counted (p: (s32[], f32[8])) -> pred[] {
  %p = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[]{:T(128)} constant(5)
  ROOT %c = pred[]{:T(512)} compare(%i, %n), direction=LT
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %w1 = f32[8]{0} while(%a), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %w2 = f32[8]{0} while(%w1), condition=%condition, body=%body
  %w3 = f32[8]{0} while(%w2), condition=%counted, body=%body
  %r = (f32[4]{0}, bf16[2,3]{1,0}) all-reduce-start(%w2), replica_groups={}
  %g = f32[16]{0} all-gather(%w2), dimensions={0}
  ROOT %fusion.2 = f32[8]{0} fusion(%g), metadata={op_name="jit(f)/UNet/conv"}, backend_config={"estimated_cycles":"7"}
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def hlo_costs():
    spec = importlib.util.spec_from_file_location("hlo_costs", TPU / "hlo_costs.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["hlo_costs"] = module  # where dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_cycles_are_summed_over_loops(hlo_costs):
    cycles = hlo_costs.cycles_by_part(PROGRAM, {"UNet": "/UNet/", "rendering": "render"})
    expected = 10 * (3 + hlo_costs.UNKNOWN_TRIPS + 5)
    assert cycles == {"UNet": 7, "rendering": expected, "other": 0}


def test_messages_are_listed_with_their_bytes(hlo_costs):
    found = [(m.kind, m.bytes) for m in hlo_costs.collectives(PROGRAM)]
    assert found == [("all-reduce", 4 * 4 + 6 * 2), ("all-gather", 64)]


@pytest.mark.slow
def test_the_step_compiles_for_a_tpu():
    """An MLP with Shampoo on four v5e chips: fits, and sends two messages."""
    pytest.importorskip("libtpu", reason="the TPU compiler is in the [tpu] extra")
    done = subprocess.run(
        [sys.executable, str(TPU / "compile_check.py"), "--config=quick", "--topology=v5e"]
        + [
            "--scenes=2",
            "--set",
            "optim.name=shampoo",
            "optim.clip_norm=0",
            "scene.field.name=mlp",
            "scene.sampler.name=hierarchical",
            "scene.sampler.coarse_samples=32",
            "scene.sampler.fine_samples=16",
            "scene.field.width=16",
            "scene.field.blocks=1",
        ],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert [m.split(" of ")[0] for m in figures["messages"].split(", ")] == [
        "all-reduce",
        "all-gather",
    ]
    assert "TOO BIG" not in figures["in all, GB"] and figures["temporaries, GB"] < 4
    assert 0.05 < figures["estimate, ms a step"] < 50
    assert figures["estimate, ms: rendering"] > 0 and figures["Tflop a chip"] > 1e-4
