"""Plain PyTorch attention functions, in the many styles in which people write them.

One long file, because it is one table: fifty functions that are read beside each other.
"""

# mypy: ignore-errors
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


def plain(q, k, v):
    return torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.size(-1)), dim=-1) @ v


def alibi_window(q, k, v, slopes):
    n = q.shape[-2]
    i, j = torch.arange(n, device=q.device)[:, None], torch.arange(n, device=q.device)[None, :]
    s = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 - slopes[:, None, None] * (i - j).abs()
    s = s.masked_fill((i < j) | (i - j >= 9), float("-inf"))
    return torch.softmax(s, -1) @ v


# --- masks ------------------------------------------------------------------------------------------------------------


def causal_tril(q, k, v):
    n = q.shape[-2]
    mask = torch.tril(torch.ones(n, n, device=q.device))
    att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
    att = att.masked_fill(mask == 0, float("-inf"))
    return F.softmax(att, dim=-1) @ v


def causal_triu_fill(q, k, v):
    n = q.size(2)
    mask = torch.full((n, n), float("-inf"), device=q.device).triu(1)
    scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(q.size(-1)) + mask
    return torch.matmul(F.softmax(scores.float(), dim=-1).type_as(q), v)


def causal_bool_triu(q, k, v):
    n = q.shape[-2]
    future = torch.ones(n, n, dtype=torch.bool, device=q.device).triu(diagonal=1)
    scores = torch.einsum("bhid,bhjd->bhij", q, k) * q.shape[-1] ** -0.5
    scores.masked_fill_(future, -torch.finfo(scores.dtype).max)
    return torch.einsum("bhij,bhjd->bhid", scores.softmax(dim=-1), v)


def causal_where(q, k, v):
    n = q.shape[-2]
    pos = torch.arange(n, device=q.device)
    scores = q @ k.mT * q.shape[-1] ** -0.5
    scores = torch.where(pos[None, :] <= pos[:, None], scores, torch.tensor(-1e9))
    return scores.softmax(-1) @ v


def causal_assigned(q, k, v):
    scores = q @ k.transpose(-1, -2) / 4.0
    above = torch.triu(torch.ones_like(scores, dtype=torch.bool), 1)
    scores[above] = float("-inf")
    return torch.nn.Softmax(dim=-1)(scores) @ v


def causal_bottom_right(q, k, v):
    n, m = q.shape[-2], k.shape[-2]
    keep = torch.ones(n, m, dtype=torch.bool, device=q.device).tril(m - n)
    s = (q @ k.transpose(-1, -2) / 4.0).masked_fill(~keep, float("-inf"))
    return s.softmax(-1) @ v


def window_of_two_triangles(q, k, v):
    n = q.shape[-2]
    ones = torch.ones(n, n, device=q.device, dtype=torch.bool)
    band = torch.tril(ones) & torch.triu(ones, -7)
    s = q @ k.transpose(-1, -2) * 0.25
    return s.masked_fill(band.logical_not(), -math.inf).softmax(-1) @ v


def documents(q, k, v, ids):
    s = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(q.shape[-1])
    same = ids[:, None, :, None] == ids[:, None, None, :]
    return torch.einsum("bhqk,bhkd->bhqd", torch.softmax(s.masked_fill(~same, float("-inf")), -1), v)


def two_masks(q, k, v, ids):
    n = q.shape[-2]
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    document = ids.unsqueeze(-1) == ids.unsqueeze(-2)
    mask = (causal[None] & document)[:, None]
    bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, float("-inf"))
    return F.softmax(q @ k.transpose(-1, -2) / 4 + bias, -1) @ v


def key_padding(q, k, v, padding):
    s = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    s = s.masked_fill(padding[:, None, None, :], torch.finfo(s.dtype).min)
    return s.softmax(-1) @ v


def bert_extended_mask(q, k, v, keep):
    extended = (1.0 - keep[:, None, None, :].to(q.dtype)) * -10000.0
    scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1]) + extended
    return torch.matmul(nn.functional.softmax(scores, dim=-1), v)


def lengths(q, k, v, lens):
    pos = torch.arange(k.shape[-2], device=q.device)
    keep = pos[None, :] < lens[:, None]
    s = (q @ k.mT / 4).masked_fill(~keep[:, None, None], float("-inf"))
    return s.softmax(-1) @ v


def prefix_lm(q, k, v):
    n = q.shape[-2]
    i = torch.arange(n).view(-1, 1)
    j = torch.arange(n).view(1, -1)
    mask = torch.logical_or(j <= i, j < 5)
    return torch.softmax(torch.where(mask, q @ k.mT / 4, float("-inf")), -1) @ v


def dilated(q, k, v):
    n = q.shape[-2]
    r = torch.arange(n)
    d = r[:, None] - r[None]
    mask = (d >= 0) & (d % 3 == 0) & (d < 24)
    return torch.softmax((q @ k.mT / 4).masked_fill(~mask, -1e30), -1) @ v


def given_bool_mask(q, k, v, mask):
    s = q @ k.mT / 4
    return s.masked_fill(~mask, float("-inf")).softmax(-1) @ v


# --- scores -----------------------------------------------------------------------------------------------------------


def given_bias(q, k, v, bias):
    return F.softmax(q @ k.mT / 4 + bias, dim=-1) @ v


def baddbmm(q, k, v, bias):
    b, h, n, d = q.shape
    scores = torch.baddbmm(
        bias.expand(b, h, n, n).reshape(b * h, n, n),
        q.reshape(b * h, n, d), k.reshape(b * h, n, d).transpose(1, 2), beta=1, alpha=d**-0.5,
    )  # fmt: skip
    return torch.bmm(scores.softmax(-1), v.reshape(b * h, n, d)).view(b, h, n, d)


def soft_cap(q, k, v):
    n = q.shape[-2]
    s = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    s = s / 20.0
    s = torch.tanh(s)
    s = s * 20.0
    causal = torch.ones(n, n, dtype=torch.bool, device=q.device).tril_()
    return s.masked_fill(~causal, -2.3819763e38).softmax(-1) @ v


def relative_bias(q, k, v, table):
    n = q.shape[-2]
    r = torch.arange(n, device=q.device)
    index = r[:, None] - r[None, :] + n - 1
    s = q @ k.mT / 4 + table[:, index]
    return s.softmax(-1) @ v


def t5_bias(q, k, v, embedding):
    n = q.shape[-2]
    context = torch.arange(n, dtype=torch.long)[:, None]
    memory = torch.arange(n, dtype=torch.long)[None, :]
    relative = memory - context
    buckets, distance = 16, 64
    half = buckets // 2
    bucket = (relative > 0).to(torch.long) * half
    relative = torch.abs(relative)
    exact = half // 2
    small = relative < exact
    large = exact + (torch.log(relative.float() / exact) / math.log(distance / exact) * (half - exact)).to(torch.long)
    large = torch.min(large, torch.full_like(large, half - 1))
    bucket += torch.where(small, relative, large)
    bias = F.embedding(bucket, embedding).permute([2, 0, 1]).unsqueeze(0)
    scores = torch.matmul(q, k.transpose(3, 2))
    scores += bias
    return torch.matmul(F.softmax(scores.float(), dim=-1).type_as(scores), v)


def swin(q, k, v, table, index):
    n = q.shape[-2]
    q = q * q.shape[-1] ** -0.5
    attn = q @ k.transpose(-2, -1)
    bias = table[index.view(-1)].view(n, n, -1).permute(2, 0, 1).contiguous()
    attn = attn + bias.unsqueeze(0)
    return attn.softmax(-1) @ v


def swin_shifted(q, k, v, mask):
    windows, n = mask.shape[0], q.shape[-2]
    attn = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    attn = attn.view(q.shape[0] // windows, windows, q.shape[1], n, n) + mask.unsqueeze(1).unsqueeze(0)
    attn = attn.view(-1, q.shape[1], n, n)
    return torch.softmax(attn, dim=-1) @ v


def alphafold_pair_bias(q, k, v, pair, gate):
    a = torch.einsum("...qhd,...khd->...hqk", q / math.sqrt(q.shape[-1]), k)
    a = a + pair
    a = F.softmax(a, dim=-1)
    o = torch.einsum("...hqk,...khd->...qhd", a, v)
    return o * torch.sigmoid(gate)


def distance_decay(q, k, v, gamma):
    r = torch.arange(q.shape[-2], device=q.device, dtype=q.dtype)
    distance = (r.unsqueeze(0) - r.unsqueeze(1)).abs()
    bias = -torch.exp(gamma).view(1, -1, 1, 1) * distance
    return torch.softmax(q @ k.mT / 4 + bias, -1) @ v


def cosine(q, k, v, temperature):
    s = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    return (s * temperature.exp()[:, None, None]).softmax(-1) @ v


def scalar_temperature(q, k, v, tau):
    return torch.softmax(q @ k.mT * tau, -1) @ v


def forgetting(q, k, v, gates):
    c = F.logsigmoid(gates).cumsum(-1)
    n = q.shape[-2]
    s = q @ k.mT / 4 + (c[..., :, None] - c[..., None, :])
    s = s.masked_fill(torch.ones(n, n).triu(1).bool(), float("-inf"))
    return s.softmax(-1) @ v


# --- normalizers ------------------------------------------------------------------------------------------------------


def manual_softmax(q, k, v):
    s = q @ k.mT / 4
    s = s - s.max(dim=-1, keepdim=True).values
    e = torch.exp(s)
    return (e / e.sum(dim=-1, keepdim=True)) @ v


def divided_after(q, k, v):
    n = q.shape[-2]
    s = (q @ k.mT / 4).masked_fill(torch.ones(n, n).tril() == 0, float("-inf"))
    e = (s - s.amax(-1, keepdim=True).detach()).exp()
    return (e @ v) / e.sum(-1, keepdim=True)


def multiplied_mask(q, k, v, keep):
    e = torch.exp(q @ k.mT / 4) * keep[:, None, None, :].float()
    return e / e.sum(-1, keepdim=True) @ v


def log_sum_exp(q, k, v):
    s = q @ k.mT / 4
    return torch.exp(s - torch.logsumexp(s, -1, keepdim=True)) @ v


def softmax_one(q, k, v):
    s = q @ k.mT / 4
    m = s.amax(-1, keepdim=True)
    e = torch.exp(s - m)
    return (e / (torch.exp(-m) + e.sum(-1, keepdim=True))) @ v


def sigmoid(q, k, v):
    n = q.shape[-2]
    s = q @ k.mT / 4 - math.log(32)
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    return torch.sigmoid(s.masked_fill(~causal, float("-inf"))) @ v


def relu_squared(q, k, v):
    n = k.shape[-2]
    a = F.relu(q @ k.mT / 4) ** 2 / n
    return a.masked_fill(torch.ones(n, n).triu(1).bool(), 0.0) @ v


def softplus_l1(q, k, v):
    w = F.softplus(q @ k.mT / 4)
    return w / w.sum(-1, keepdim=True) @ v


def sink(q, k, v, sinks):
    n = q.shape[-2]
    s = q @ k.transpose(2, 3) * 0.25 + torch.full((n, n), float("-inf")).triu(1)
    column = sinks.reshape(1, -1, 1, 1).expand(q.shape[0], -1, n, -1)
    combined = torch.cat([s, column], dim=-1)
    combined = combined - combined.max(dim=-1, keepdim=True).values
    weights = F.softmax(combined, dim=-1, dtype=combined.dtype)
    return torch.matmul(weights[..., :-1], v)


def shifted(q, k, v):
    s = q @ k.mT / 4
    s = s - torch.max(s, -1, keepdim=True)[0]
    return F.softmax(s, -1, dtype=torch.float32).to(v.dtype) @ v


# --- layouts ----------------------------------------------------------------------------------------------------------


def bnhd(q, k, v):
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out = torch.softmax(q @ k.mT / 4, -1) @ v
    return out.transpose(1, 2).contiguous().view(q.shape[0], q.shape[2], -1)


def bnhd_einsum(q, k, v):
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / 4
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)


def flat_heads(q, k, v):
    w = torch.bmm(q, k.transpose(1, 2)).div(4).softmax(2)
    return torch.bmm(w, v)


def one_sequence(q, k, v):
    return F.softmax(q @ k.T / 4, dim=1) @ v


def repeated_heads(q, k, v):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    return torch.softmax(q @ k.mT / 4, -1) @ v


def expanded_heads(q, k, v):
    b, heads, n, d = k.shape
    g = q.shape[1] // heads
    k = k[:, :, None, :, :].expand(b, heads, g, n, d).reshape(b, heads * g, n, d)
    v = v[:, :, None, :, :].expand(b, heads, g, n, d).reshape(b, heads * g, n, d)
    return torch.softmax(q @ k.mT / 4, -1) @ v


def grouped_einsum(q, k, v):
    b, h, n, d = q.shape
    q = q.view(b, k.shape[1], -1, n, d)
    a = torch.einsum("bkgnd,bkmd->bkgnm", q, k).div(4).softmax(-1)
    return torch.einsum("bkgnm,bkmd->bkgnd", a, v).reshape(b, h, n, d)


def packed_projection(x, weight, out):
    b, n, c = x.shape
    qkv = F.linear(x, weight).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]
    a = (q @ k.transpose(-2, -1) * (c // 4) ** -0.5).softmax(dim=-1)
    return F.linear((a @ v).transpose(1, 2).reshape(b, n, c), out)


def rotary(q, k, v):
    n, d = q.shape[-2:]
    angle = torch.arange(n)[:, None] / 10000 ** (torch.arange(0, d, 2) / d)
    cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)

    def turn(x):
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat((-b, a), -1) * sin

    return torch.softmax(turn(q) @ turn(k).mT / 4, -1) @ v


# --- scaled_dot_product_attention -------------------------------------------------------------------------------------


def sdpa(q, k, v):
    return F.scaled_dot_product_attention(q, k, v)


def sdpa_causal(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)


def sdpa_grouped(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def sdpa_bool_mask(q, k, v):
    n = q.shape[-2]
    r = torch.arange(n)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=(r[:, None] - r).abs() < 6)


def sdpa_bias(q, k, v, bias):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


# --- after ------------------------------------------------------------------------------------------------------------


def weighted(q, k, v, decay):
    p = torch.softmax(q @ k.mT / 4, -1)
    r = torch.arange(q.shape[-2])
    return (p * decay[:, None, None] ** (r[:, None] - r).abs()) @ v


def differential(q, k, v, lam):
    q1, q2 = q.chunk(2, -1)
    k1, k2 = k.chunk(2, -1)
    a1 = torch.softmax(q1 @ k1.mT / 4, -1)
    a2 = torch.softmax(q2 @ k2.mT / 4, -1)
    return (a1 - lam * a2) @ v


def two_attentions(q, k, v):
    first = torch.softmax(q @ k.mT / 4, -1) @ v
    return torch.softmax(first @ k.mT / 4, -1) @ v


# --- what only looks like one -----------------------------------------------------------------------------------------


def mlp(x, up, down):
    return F.relu(x @ up) @ down


def other_axis(q, k, v):
    return torch.softmax(q @ k.mT / 4, dim=-2) @ v


def scores_twice(q, k, v):
    s = torch.softmax(q @ k.mT / 4, -1)
    return s @ v, s


def talking_heads(q, k, v, mix):
    s = torch.einsum("hg,bgij->bhij", mix, q @ k.mT / 4)
    return s.softmax(-1) @ v


def three_matrices(q, k, v):
    return q @ k.mT @ v


def linear_attention(q, k, v):
    return (F.elu(q) + 1) @ ((F.elu(k) + 1).mT @ v)
