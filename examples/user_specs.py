"""Five mechanisms that attngen has never seen, as somebody would write them outside the package.

A mask says which keys a query sees, a score function changes the score of a pair, a normalizer turns the scores of a
row into weights. Arguments are bound by name (`score, b, h, q, kv`: any subset, in any order), or by position with
other names, as in FlexAttention. Tensors from outside are read anew at every call.

    attngen show examples/user_specs.py:dilated --shape 1,2,2,4096,4096,64
    attngen verify examples/user_specs.py:fading_cap
"""

from __future__ import annotations

import math

import torch

import attngen

TOKENS = 4096
HEADS = 2

# (a) Causal; scores are capped, and the more tightly the farther away the key is. ------------------------------------


def fade(score, q, kv):
    cap = 40.0 / (1.0 + 0.01 * torch.abs(q - kv))
    return cap * torch.tanh(score / cap)


def causal(q, kv):
    return kv <= q


fading_cap = attngen.Spec(mask=causal, score=fade)

# (b) Every fourth key of the last 512, and the first four keys for everyone. By position: FlexAttention's signature. --


def every_fourth(batch, head, query, key):
    distance = query - key
    near = (distance < 512) & (distance % 4 == 0)
    return (distance >= 0) & (near | (key < 4))


dilated = attngen.Spec(mask=every_fourth)

# (c) Many documents packed into one sequence, causal inside each, with ALiBi. Both tensors are captured. -------------

documents = torch.repeat_interleave(torch.arange(8), torch.tensor([977, 131, 640, 58, 1200, 333, 700, 57]))
slopes = 2.0 ** -torch.arange(1, HEADS + 1)


def same_document(b, h, q_idx, kv_idx):
    return (documents[q_idx] == documents[kv_idx]) & (kv_idx <= q_idx)


def alibi(score, b, h, q_idx, kv_idx):
    return score - slopes[h] * (q_idx - kv_idx)


packed = attngen.Spec(mask=same_document, score=alibi)

# (d) A normalizer of our own on a picture: 13 x 13 neighbours, weights squareplus(s) / sum squareplus(s). -------------


def neighbours(q, kv):
    return (torch.abs(q[0] - kv[0]) <= 6) & (torch.abs(q[1] - kv[1]) <= 6)


def squareplus(s):
    return (s + torch.sqrt(s * s + 4.0)) / 2.0


squareplus_l1 = attngen.normalizers.streaming("squareplus_l1", phi=squareplus, psi=squareplus)
picture = attngen.Spec(mask=neighbours, normalizer=squareplus_l1, space=attngen.Grid((64, 64)))

# (e) Sigmoid attention, both directions, with a learned bias for each head and clipped distance. ----------------------

bias = 0.5 * torch.randn(HEADS, 2 * 128 + 1, generator=torch.Generator().manual_seed(0))


def clipped_bias(score, h, q, kv):
    return score + bias[h, torch.clamp(q - kv, -128, 128) + 128]


sigmoid_bias = attngen.Spec(score=clipped_bias, normalizer=attngen.normalizers.sigmoid(bias=-math.log(TOKENS)))
