"""Attention modules as well-known repositories write them."""

# mypy: ignore-errors
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, HEADS, DIM = 64, 4, 16


class NanoGPT(nn.Module):
    """karpathy/nanoGPT: a buffer holds the triangle, of which a corner is used."""

    def __init__(self):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.attn_dropout = nn.Dropout(0.0)
        self.register_buffer("bias", torch.tril(torch.ones(64, 64)).view(1, 1, 64, 64))

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(WIDTH, dim=2)
        k = k.view(B, T, HEADS, C // HEADS).transpose(1, 2)
        q = q.view(B, T, HEADS, C // HEADS).transpose(1, 2)
        v = v.view(B, T, HEADS, C // HEADS).transpose(1, 2)
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
        att = self.attn_dropout(F.softmax(att, dim=-1))
        return self.c_proj((att @ v).transpose(1, 2).contiguous().view(B, T, C))


class Timm(nn.Module):
    """timm's vision transformer: queries and keys are normalised, dropout is off in eval mode."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.q_norm, self.k_norm = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.attn_drop = nn.Dropout(0.1)

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, HEADS, DIM).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        q = q * DIM**-0.5
        attn = self.attn_drop((q @ k.transpose(-2, -1)).softmax(dim=-1))
        return self.proj((attn @ v).transpose(1, 2).reshape(B, N, C))


class Bert(nn.Module):
    """google-research/bert, as transformers had it: an additive mask of -10000 made of ones and zeros."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def transpose_for_scores(self, x):
        return x.view(x.size()[:-1] + (HEADS, DIM)).permute(0, 2, 1, 3)  # noqa: RUF005

    def forward(self, h, mask):
        q, k, v = (self.transpose_for_scores(f(h)) for f in (self.query, self.key, self.value))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(DIM)
        scores = scores + (1.0 - mask[:, None, None, :]) * -10000.0
        context = torch.matmul(nn.Softmax(dim=-1)(scores), v).permute(0, 2, 1, 3).contiguous()
        return context.view(context.size()[:-2] + (WIDTH,))  # noqa: RUF005


class Bloom(nn.Module):
    """BLOOM: ALiBi is what `baddbmm` adds to, and everything is (B * H, N, D)."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x, alibi):
        b, n, _ = x.shape
        fused = self.qkv(x).view(b, n, HEADS, 3, DIM)
        q, k, v = fused[..., 0, :], fused[..., 1, :], fused[..., 2, :]
        q = q.transpose(1, 2).reshape(b * HEADS, n, DIM)
        k = k.permute(0, 2, 3, 1).reshape(b * HEADS, DIM, n)
        v = v.transpose(1, 2).reshape(b * HEADS, n, DIM)
        scores = alibi.baddbmm(batch1=q, batch2=k, beta=1.0, alpha=DIM**-0.5).view(b, HEADS, n, n)
        future = torch.ones(n, n, dtype=torch.bool).triu(1)
        scores = torch.masked_fill(scores, future[None, None], torch.finfo(scores.dtype).min)
        probs = F.softmax(scores, dim=-1, dtype=torch.float32).to(x.dtype)
        context = torch.bmm(probs.view(b * HEADS, n, n), v)
        return context.view(b, HEADS, n, DIM).permute(0, 2, 1, 3).reshape(b, n, WIDTH)


class Llama(nn.Module):
    """meta-llama/llama: two key heads, expanded; softmax in float32 and back."""

    def __init__(self):
        super().__init__()
        self.wq, self.wo = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.wk, self.wv = nn.Linear(WIDTH, 2 * DIM, bias=False), nn.Linear(WIDTH, 2 * DIM, bias=False)

    def forward(self, x):
        b, n, _ = x.shape
        q = self.wq(x).view(b, n, HEADS, DIM)
        k, v = self.wk(x).view(b, n, 2, DIM), self.wv(x).view(b, n, 2, DIM)
        k, v = (t[:, :, :, None, :].expand(b, n, 2, 2, DIM).reshape(b, n, HEADS, DIM) for t in (k, v))
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        mask = torch.triu(torch.full((n, n), float("-inf")), diagonal=1)
        scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(DIM) + mask
        output = torch.matmul(F.softmax(scores.float(), dim=-1).type_as(q), v)
        return self.wo(output.transpose(1, 2).contiguous().view(b, n, -1))


class Swin(nn.Module):
    """microsoft/Swin-Transformer: a learned table, read at an index that is a buffer."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.table = nn.Parameter(torch.randn(81, HEADS))
        grid = torch.stack(torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij")).flatten(1)
        relative = (grid[:, :, None] - grid[:, None, :] + 4).permute(1, 2, 0)
        self.register_buffer("index", relative[..., 0] * 9 + relative[..., 1])

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, DIM).permute(2, 0, 3, 1, 4)
        bias = self.table[self.index.view(-1)].view(n, n, -1).permute(2, 0, 1).contiguous()
        attn = (q * DIM**-0.5) @ k.transpose(-2, -1) + bias.unsqueeze(0)
        return (attn.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c)


class MultiHead(nn.Module):
    """torch.nn.MultiheadAttention with a causal and a padding mask."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x, padding):
        future = torch.triu(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool), 1)
        return self.attention(x, x, x, need_weights=False, attn_mask=future, key_padding_mask=padding)[0]


def encoder_layer():
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 96, dropout=0.0, batch_first=True)
