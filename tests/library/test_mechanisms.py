"""Mechanisms against dense definitions through the reference, and the command line's form of a call."""

from __future__ import annotations

import pytest
import torch

import attngen
from attngen import masks, mechanisms, normalizers, scores
from attngen.errors import SpecError
from attngen.ir import nodes
from tests.library.dense import dense, qkv, run
from tests.library.dense import scores as dots


def attend(q, k, v, seen, scale=None):
    """Dense softmax attention in float64; rows without keys give 0."""
    s = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    return torch.nan_to_num(torch.softmax(torch.where(seen, s, -torch.inf), -1)) @ v


def halves(tensor):
    return tensor.chunk(2, -1)


def turned(x, y, at):
    """The pairs (x, y) turned by angles that fall from pair to pair: rotary embeddings."""
    angle = at[:, None] * 0.3 ** torch.arange(x.shape[-1]).double()
    return x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()


def interleaved(x, at):
    return torch.stack(turned(x[..., ::2], x[..., 1::2], at), -1).flatten(-2)


def rotated_halves(x, at):
    return torch.cat(turned(*halves(x), at), -1)


Q, KV = torch.arange(6)[:, None], torch.arange(6)
BACK, AHEAD, ALL = KV <= Q, KV >= Q, torch.full((6, 6), True)
SAME = qkv(h=3, n_q=6, n_k=6, d=8, dv=6)


class TestWindows:
    def test_sliding_window(self):
        tensors = qkv()
        seen = dense(masks.sliding_window(3), 7, 9)
        assert torch.allclose(run(mechanisms.sliding_window(3), tensors), attend(*tensors.values(), seen))

    def test_streaming_llm(self):
        tensors = qkv(n_q=9)
        i, j = torch.arange(9)[:, None], torch.arange(9)
        seen = (j <= i) & ((j < 2) | (j > i - 3))
        assert torch.allclose(run(mechanisms.streaming_llm(2, 3), tensors), attend(*tensors.values(), seen))

    def test_chunked(self):
        tensors = qkv(n_q=9)
        i, j = torch.arange(9)[:, None], torch.arange(9)
        seen = (j <= i) & (i // 4 == j // 4)
        assert torch.allclose(run(mechanisms.chunked(4), tensors), attend(*tensors.values(), seen))

    def test_neighborhood_with_own_score_and_normalizer(self):
        tensors = qkv(n_q=20, n_k=20)
        spec = mechanisms.neighborhood((4, 5), 3, score=scores.soft_cap(2.0), normalizer="sigmoid")
        seen = dense(masks.neighborhood((4, 5), 3), 20, 20)
        weight = torch.where(seen, torch.sigmoid(2 * torch.tanh(dots(tensors) / 2)), 0.0)
        assert torch.allclose(run(spec, tensors), weight @ tensors["v"])

    def test_causal_and_full(self):
        tensors = qkv()
        seen = dense(masks.causal("bottom_right"), 7, 9)
        assert torch.allclose(run(mechanisms.causal("bottom_right"), tensors), attend(*tensors.values(), seen))
        assert torch.allclose(run(mechanisms.full(), tensors), attend(*tensors.values(), torch.tensor(True)))


WINDOWS = [
    (mechanisms.sliding_window(3), masks.sliding_window(3)),
    (mechanisms.window(2, -1), masks.window(2, -1)),
    (mechanisms.chunked(4), masks.causal("bottom_right") & masks.chunked(4)),
    (mechanisms.strided(3), masks.strided(3)),
    (mechanisms.longformer(2), masks.dilated(2, 1)),
    (mechanisms.longformer(2, 3, 1), masks.dilated(2, 3) | masks.global_tokens(1)),
    (mechanisms.bigbird(4), masks.bigbird(4)),
    (mechanisms.a_shape(2, 3), masks.a_shape(2, 3)),
    (mechanisms.tri_shape(2, 3, 4), masks.tri_shape(2, 3, 4)),
    (mechanisms.power_attention(4, 2, 0), masks.power_blocks(4, 2, 0)),
    (mechanisms.blocked((4, 6), (2, 3), (0, 1)), masks.blocked((4, 6), (2, 3), (0, 1))),
    (mechanisms.axial((4, 6), 1), masks.axial((4, 6), 1)),
    (mechanisms.maxvit_grid((4, 6), (2, 3)), masks.maxvit_grid((4, 6), (2, 3))),
    (mechanisms.sliding_tile((4, 6), 2, (1, 3)), masks.sliding_tile((4, 6), 2, (1, 3))),
]


@pytest.mark.parametrize(("spec", "mask"), WINDOWS, ids=[spec.ir.name for spec, _ in WINDOWS])
def test_a_mechanism_of_a_mask_alone(spec, mask):
    """Masks have tests of their own."""
    assert spec.ir == attngen.Spec(mask).ir


def test_columns_and_diagonals_of_a_call():
    tensors = qkv(n_q=7, n_k=9)
    columns, diagonals = (torch.rand(2, 3, 9, generator=torch.Generator().manual_seed(i)) < 0.3 for i in range(2))
    seen = dense(masks.vertical_slash(columns, diagonals), 7, 9, b=2, h=3)
    out = run(mechanisms.vertical_slash(scale=0.5), tensors, columns=columns, diagonals=diagonals)
    assert torch.allclose(out, attend(*tensors.values(), seen, 0.5))
    needed = mechanisms.vertical_slash().inputs_needed
    assert [(i.name, i.axes, i.type) for i in needed] == [
        (n, ("b", "h", "kv"), "bool") for n in ("columns", "diagonals")
    ]


class TestDualTriangle:
    def test_within_head(self):
        parts = zip(*(halves(t) for t in SAME.values()), strict=True)
        expected = [attend(*part, seen) for part, seen in zip(parts, (BACK, AHEAD), strict=True)]
        assert torch.allclose(run(mechanisms.dual_triangle(), SAME), torch.cat(expected, -1))

    @pytest.mark.parametrize("heads", [1, 3, 4])
    def test_across_heads_is_the_released_code(self, heads):
        """Sub-heads are numbered 2 h + half; those below H look back."""
        tensors = qkv(h=heads, n_q=6, n_k=6, d=8, dv=6)
        split = [t.unflatten(-1, (2, -1)).transpose(2, 3).flatten(1, 2) for t in tensors.values()]
        seen = torch.stack([BACK if sub < heads else AHEAD for sub in range(2 * heads)])
        out = attend(*split, seen)
        expected = out.unflatten(1, (heads, 2)).transpose(2, 3).flatten(3)
        assert torch.allclose(run(mechanisms.dual_triangle("across_heads"), tensors), expected)

    def test_joint(self):
        (q0, q1), (k0, k1) = halves(SAME["q"]), halves(SAME["k"])
        s = torch.where(KV > Q, q1 @ k1.mT, q0 @ k0.mT) * 4**-0.5
        assert torch.allclose(run(mechanisms.dual_triangle("joint"), SAME), torch.softmax(s, -1) @ SAME["v"])

    @pytest.mark.parametrize("layout", ["within_head", "across_heads", "joint"])
    def test_padding_on_queries_and_keys(self, layout):
        n = torch.tensor([4, 6])
        spec = mechanisms.dual_triangle(layout, mask=lambda b, q, kv: (q < n[b]) & (kv < n[b]))
        out = run(spec, SAME)
        short = {name: t[:1, :, :4] for name, t in SAME.items()}
        assert torch.allclose(out[:1, :, :4], run(mechanisms.dual_triangle(layout), short))
        assert out[0, :, 4:].abs().max() == 0

    def test_the_ends_see_one_key(self):
        out = run(mechanisms.dual_triangle(), SAME)
        assert torch.allclose(out[:, :, 0, :3], SAME["v"][:, :, 0, :3])
        assert torch.allclose(out[:, :, -1, 3:], SAME["v"][:, :, -1, 3:])

    @pytest.mark.parametrize("layout", ["within_head", "across_heads", "joint"])
    def test_rotary_embeddings_before_the_split(self, layout):
        """Interleaved pairs stay whole, so the result depends on distances alone; rotated halves would be torn."""
        tensors = qkv(n_q=6, n_k=6, d=8, dv=6)
        q, k, v = tensors.values()

        def moved(rotate, by):
            rotated = {"q": rotate(q, torch.arange(6) + by), "k": rotate(k, torch.arange(6) + by), "v": v}
            return run(mechanisms.dual_triangle(layout), rotated)

        assert torch.allclose(moved(interleaved, 0), moved(interleaved, 5))
        assert not torch.allclose(moved(rotated_halves, 0), moved(rotated_halves, 5))

    @pytest.mark.parametrize("layout", ["within_head", "across_heads", "joint"])
    def test_one_token_sees_itself(self, layout):
        tensors = qkv(n_q=1, n_k=1, dv=6)
        assert torch.allclose(run(mechanisms.dual_triangle(layout), tensors), tensors["v"])


class TestDifferential:
    @pytest.mark.parametrize(
        "lam", [0.3, torch.tensor([0.1, 0.5, 2.0]), torch.rand(2, 3, 6)], ids=["one", "head", "row"]
    )
    def test_values(self, lam):
        (q0, q1), (k0, k1) = halves(SAME["q"]), halves(SAME["k"])
        if isinstance(lam, torch.Tensor):
            factor = lam[..., None].double() if lam.dim() == 3 else lam[:, None, None].double()
        else:
            factor = lam
        v = SAME["v"]
        expected = attend(q0, k0, v, BACK) - factor * attend(q1, k1, v, BACK)
        assert torch.allclose(run(mechanisms.differential(lam, mask=masks.causal()), SAME), expected)

    def test_given_per_call(self):
        spec = mechanisms.differential("lam[h]")
        assert [i.name for i in spec.inputs_needed] == ["lam"]
        lam = torch.rand(3)
        assert torch.allclose(run(spec, SAME, lam=lam), run(mechanisms.differential(lam), SAME))

    def test_captured_inputs_of_both_branches_are_one(self):
        spec = mechanisms.differential(0.5, mask=masks.sliding_window(3), score=scores.soft_cap(4))
        assert [i.name for i in spec.ir.inputs] == ["lam", "window", "cap"]


PHI = {
    "softmax": lambda x: torch.softmax(x, -1),
    "elu": lambda x: torch.nn.functional.elu(x) + 1,
    "relu": torch.relu,
}


class TestLinear:
    @pytest.mark.parametrize("name", PHI)
    def test_values(self, name):
        q, k, v = SAME.values()
        a = torch.where(BACK, PHI[name](q) @ PHI[name](k).mT, 0.0)
        expected = torch.nan_to_num(a @ v / a.sum(-1, keepdim=True))
        assert torch.allclose(run(mechanisms.linear(name, mask=masks.causal()), SAME), expected)

    def test_decay(self):
        q, k, v = SAME.values()
        decay = -torch.rand(2, 3, 6, dtype=torch.float64)
        total = decay.cumsum(-1)
        a = torch.where(BACK, PHI["elu"](q) @ PHI["elu"](k).mT * torch.exp(total[..., None] - total[..., None, :]), 0.0)
        spec = mechanisms.linear(decay=True, normalizer="none")
        assert torch.allclose(run(spec, SAME, log_decay=decay), a @ v)

    def test_elu_does_not_overflow(self):
        tensors = {**SAME, "k": 1000 * SAME["k"]}
        tensors = {name: t.clone().requires_grad_() for name, t in tensors.items()}
        grads = torch.autograd.grad(run(mechanisms.linear(), tensors).sum(), list(tensors.values()))
        assert all(torch.isfinite(grad).all() for grad in grads)


class TestSparseLinear:
    tensors = qkv(n_q=16, n_k=16, d=8, dv=8)
    table = torch.tensor([[1, 0, -1, 0], [0, 1, 0, -1], [1, 1, 1, 1], [-1, 0, 0, 1]])

    def build(self, **options):
        return mechanisms.sparse_linear("table", query_block=4, key_block=4, **options)

    @pytest.mark.parametrize("domain", ["marginal", "complement", "all"])
    @pytest.mark.parametrize("feature", PHI)
    def test_values(self, domain, feature):
        q, k, v = self.tensors.values()
        cls = self.table.repeat_interleave(4, 0).repeat_interleave(4, 1)
        seen = {"marginal": cls == 0, "complement": cls != 1, "all": cls < 9}[domain]
        a = torch.where(seen, PHI[feature](q) @ PHI[feature](k).mT, 0.0)
        linear = a @ v / torch.where(a.sum(-1) == 0, 1.0, a.sum(-1))[..., None]
        w = torch.randn(8, 8, dtype=torch.float64)
        out = run(
            self.build(linear_domain=domain, feature_map=feature),
            self.tensors,
            projection=w,
            block_classes=self.table[None, None],
        )
        assert torch.allclose(out, attend(q, k, v, cls == 1) + linear @ w)

    @pytest.mark.parametrize("smooth_k", [False, True])
    def test_router(self, smooth_k):
        q, k, _v = self.tensors.values()
        keys = k - k.mean(2, keepdim=True) if smooth_k else k
        pooled = q.unflatten(2, (4, 4)).mean(3) @ keys.unflatten(2, (4, 4)).mean(3).mT
        rank = pooled.argsort(-1, descending=True).argsort(-1)
        table = torch.where(rank < 2, 1, torch.where(rank == 3, -1, 0))
        spec = mechanisms.sparse_linear(0.5, 0.25, 4, 4, smooth_k=smooth_k, projection=False)
        given = self.build(projection=False)
        assert torch.allclose(run(spec, self.tensors), run(given, self.tensors, block_classes=table))

    def test_everything_critical_is_softmax_attention(self):
        out = run(mechanisms.sparse_linear(1.0, projection=False), self.tensors)
        assert torch.allclose(out, attend(*self.tensors.values(), torch.tensor(True)))

    def test_inputs(self):
        assert [i.name for i in self.build().inputs_needed] == ["block_classes", "projection"]
        assert self.build().ir.combine == nodes.Project((None, "projection"))


class TestBuild:
    @pytest.mark.parametrize(
        ("text", "made"),
        [
            ("full", mechanisms.full()),
            ("sliding_window:window=256", mechanisms.sliding_window(256)),
            ("neighborhood:dims=8x9,kernel_size=3", mechanisms.neighborhood((8, 9), 3)),
            (
                "neighborhood: dims=8x9, kernel_size=3x5, stride=1x2, is_causal=truexFalse",
                mechanisms.neighborhood((8, 9), (3, 5), (1, 2), 1, (True, False)),
            ),
            (
                "neighborhood:dims=8x9,kernel_size=3,extra_keys=true",
                mechanisms.neighborhood((8, 9), 3).with_extra_keys(),
            ),
            ("blocked:dims=8x9,window=4x3,shift=2x1", mechanisms.blocked((8, 9), (4, 3), (2, 1))),
            ("shifted_windows:dims=8x8,window=4", mechanisms.blocked((8, 8), 4, 2)),
            ("window:left=3,right=-1", mechanisms.window(3, -1)),
            (
                "sliding_tile:dims=6x8x8,tile=3x4x4,window=2x1x2",
                mechanisms.sliding_tile((6, 8, 8), (3, 4, 4), (2, 1, 2)),
            ),
            ("longformer:window=4,dilation=2,global_tokens=3", mechanisms.longformer(4, 2, 3)),
            ("dual_triangle:layout=joint", mechanisms.dual_triangle("joint")),
            ("differential:lam=0.5", mechanisms.differential(0.5)),
            (
                "sparse_linear:topk=0.1,linear_domain=all,eps=1e-5",
                mechanisms.sparse_linear(0.1, linear_domain="all", eps=1e-5),
            ),
            ("linear:feature_map=relu,decay=true", mechanisms.linear("relu", decay=True)),
            ("causal:normalizer=sigmoid,scale=0.5", mechanisms.causal(normalizer="sigmoid", scale=0.5)),
        ],
    )
    def test_reads(self, text, made):
        assert mechanisms.build(text).ir == made.ir

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("sliding_windw:window=3", r"mechanism: got 'sliding_windw'; .*\(did you mean 'sliding_window'\?\)"),
            (
                "sliding_window:windw=3",
                r"sliding_window: unknown key 'windw' \(did you mean 'window'\?\); keys: window",
            ),
            ("sliding_window", "sliding_window: window is missing; write sliding_window:window=..."),
            ("sliding_window:window", "sliding_window: got 'window'; write key=value"),
            ("sliding_window:window=3,window=4", "sliding_window: window is given twice"),
            ("sliding_window:window=wide", "window: got 'wide'; allowed: an integer >= 1"),
            ("neighborhood:dims=8x8,kernel_size=3x9", r"kernel_size\[1\]: got 9; allowed: 2 .. 8"),
            ("dual_triangle:layout=within", "layout: got 'within'; allowed: .*did you mean 'within_head'"),
            ("sparse_linear:topk=0", "topk: got 0; allowed: a share, 0 < topk <= 1, or 'table'"),
            ("sparse_linear:topk=1.5", "topk: got 1.5; allowed: a share"),
            ("sparse_linear:topk=0.9,bottom=0.2", "bottom: got 0.2 beside topk=0.9; allowed: topk \\+ bottom <= 1"),
            ("sparse_linear:topk=0.1,feature_map=gelu", "feature_map: got 'gelu'; allowed: softmax, elu, relu"),
            (
                "sparse_linear:topk=0.1,linear_domain=some",
                "linear_domain: got 'some'; allowed: marginal, complement, all",
            ),
            ("sparse_linear:topk=0.1,key_block=0", "key_block: got 0; allowed: an integer >= 1"),
        ],
    )
    def test_refuses(self, text, message):
        with pytest.raises(SpecError, match=message):
            mechanisms.build(text)


@pytest.mark.parametrize("name", mechanisms.ALL)
def test_every_mechanism_has_a_text_that_parses_back(name):
    arguments = {
        "sliding_window": ":window=4",
        "chunked": ":size=4",
        "neighborhood": ":dims=6x6,kernel_size=3",
        "blocked": ":dims=6x6,window=3",
        "shifted_windows": ":dims=6x6,window=3",
        "axial": ":dims=6x6,axis=0",
        "maxvit_grid": ":dims=6x6,size=3",
        "sliding_tile": ":dims=6x6,tile=2,window=1",
        "freeswim": ":dims=2x6x6,radius=1",
        "strided": ":stride=4",
        "longformer": ":window=4",
        "window": ":left=4,right=0",
        "differential": ":lam=0.5",
        "sparse_linear": ":topk=0.2",
    }
    spec = mechanisms.build(name + arguments.get(name, ""))
    assert type(spec).parse(str(spec)).ir == spec.ir
    assert mechanisms.ALL[name].__doc__


def test_normalizers_take_part_in_every_form():
    spec = mechanisms.dual_triangle(normalizer=normalizers.softmax(sink=torch.zeros(3)))
    assert [i.name for i in spec.ir.inputs] == ["sink"]
    assert run(spec, SAME).shape == (2, 3, 6, 6)
