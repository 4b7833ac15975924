from __future__ import annotations

from tests.cli.conftest import Run


def test_a_page(run: Run) -> None:
    result = run("explain", "causal", "--shape", "1,2,1,100,100,16,8", "--dtype", "bf16", "--backend", "reference")
    assert result.exit_code == 0, result.stderr
    lines = result.output.splitlines()
    assert lines[0] == "causal: B 1, 2 heads, 1 key heads, 100 queries x 100 keys, D 16, Dv 8; bf16, bhnd, cpu"
    assert "backend     reference" in lines
    assert "            not cpu: 'reference' was asked for" in lines
    assert "mask        kv <= q" in lines
    assert "pairs       10100 visible" in lines


def test_inputs_and_their_paths(run: Run, user_file: str) -> None:
    output = run("explain", f"{user_file}:alibi", "--backend", "reference").output
    assert "alibi: B 1, 2 heads" in output
    assert "slopes: per batch and head" in output
    assert "slopes: float32 tensor (2), read through slopes" in output
    assert "lengths: int64 tensor (1), read through given per call" not in output
    assert "given per call" in run("explain", f"{user_file}:text", "--backend", "reference").output


def test_bad_options(run: Run, user_file: str) -> None:
    for arguments, message in (
        (("causal", "--dtype", "fp8"), "--dtype: got 'fp8'; allowed: fp32, bf16, fp16, fp64"),
        (("causal", "--backend", "cup"), "--backend: got 'cup'; allowed: cpu, triton, cuda, reference (did you mean"),
        (("causal", "--device", "tpux"), "--device: got 'tpux'; allowed: cpu"),
        (("causal", "--shape", "1,2,2,8,8,16", "--head-dim", "8"), "--head-dim: got 8, but --shape has D=16"),
        (("causal", "--shape", "1,3,2,8,8,16"), "which do not divide the 3 heads"),
        (("neighborhood:dims=3x4,kernel_size=2", "--shape", "1,1,1,8,8,4"), "the grid 3x4 of this spec has 12 tokens"),
        ((f"{user_file}:free",), "table: this spec needs it per call, and the spec does not tell the size"),
    ):
        result = run("explain", *arguments)
        assert result.exit_code == 2, result.output
        assert message in result.stderr
