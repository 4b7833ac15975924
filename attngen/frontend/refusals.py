"""What cannot be said about one query and one key, and what to write instead."""

from __future__ import annotations

REDUCTIONS = frozenset(
    [
        "max",
        "min",
        "sum",
        "mean",
        "prod",
        "softmax",
        "log_softmax",
        "softmin",
        "logsumexp",
        "amax",
        "amin",
        "aminmax",
        "argmax",
        "argmin",
        "topk",
        "kthvalue",
        "sort",
        "argsort",
        "msort",
        "cumsum",
        "cumprod",
        "cummax",
        "cummin",
        "logcumsumexp",
        "norm",
        "vector_norm",
        "std",
        "var",
        "std_mean",
        "var_mean",
        "median",
        "nanmedian",
        "mode",
        "quantile",
        "nanquantile",
        "nansum",
        "nanmean",
        "count_nonzero",
        "unique",
        "unique_consecutive",
        "nonzero",
        "argwhere",
        "any",
        "all",
        "layer_norm",
        "rms_norm",
        "group_norm",
        "batch_norm",
        "normalize",
        "diff",
        "flip",
        "roll",
        "renorm",
        "histc",
        "bincount",
        "logaddexp_reduce",
        "gumbel_softmax",
    ]
)
RANDOM = frozenset(
    [
        "rand",
        "randn",
        "randint",
        "rand_like",
        "randn_like",
        "randint_like",
        "randperm",
        "bernoulli",
        "normal",
        "multinomial",
        "dropout",
        "alpha_dropout",
        "feature_dropout",
        "poisson",
        "rrelu",
        "uniform_",
        "normal_",
        "bernoulli_",
        "random_",
        "exponential_",
        "geometric_",
        "dropout1d",
        "random",
        "gauss",
        "uniform",
    ]
)
REASONS = {
    "detach": "a score has no stop-gradient; detach the captured tensors instead",
    "detach_": "a score has no stop-gradient; detach the captured tensors instead",
    "data": "a score has no stop-gradient; detach the captured tensors instead",
    "requires_grad_": "a score has no stop-gradient; set it on the captured tensors",
    "numpy": "a value under trace is not there yet; use torch or math functions",
    "tolist": "a value under trace is not there yet; use torch or math functions",
    "unsqueeze": "values are single numbers, without dimensions",
    "matmul": "values are single numbers; only q and k meet in a dot product, in the definition of the attention",
    "mm": "values are single numbers; only q and k meet in a dot product, in the definition of the attention",
    "einsum": "values are single numbers; only q and k meet in a dot product, in the definition of the attention",
    "stack": "values are single numbers; use torch.maximum, torch.minimum or torch.where on two of them",
    "cat": "values are single numbers; use torch.maximum, torch.minimum or torch.where on two of them",
    "gather": "index the captured tensor: table[h, q]",
    "take": "index the captured tensor: table[h, q]",
    "isin": "compare with each value: (x == a) | (x == b), or `x in (a, b)`",
    "bucketize": "write the buckets with comparisons, or keep a table of buckets and index it: buckets[q - kv]",
    "searchsorted": "write the buckets with comparisons, or keep a table of buckets and index it: buckets[q - kv]",
    "tensor": "values are single numbers; use torch.maximum, torch.minimum or torch.where on two of them",
    "tril": "write q >= kv",
    "triu": "write q <= kv",
    "masked_fill_": "works in place; use the result: score = score.masked_fill(condition, value)",
    "backward": "gradients are derived by attngen",
}
HOST = {
    "tolist": "a list of its numbers would be fixed when it is traced; index the tensor",
    "numpy": "an array would be fixed when it is traced; use torch functions",
    "backward": "gradients are derived by attngen",
    "grad": "the gradient of a captured tensor cannot be an input",
}
KNOWN = REDUCTIONS | RANDOM | REASONS.keys()


def reduction(name: str, of_score: bool, shown: str) -> str:
    """Why a reduction cannot be had."""
    what = "the score is" if of_score else f"`{shown}` is"
    where = f"`{name}` over `{shown}`" if shown != "this value" else f"`{name}`"
    return (
        f"{where}: {what} one number (one query, one key), not a row. What needs the whole row belongs in a "
        "normalizer: normalizer=attngen.normalizers..., or your own attngen.Normalizer"
    )


def random(name: str) -> str:
    """Why random numbers cannot be drawn."""
    return (
        f"`{name}`: random numbers drawn here would differ between forward and backward and between tilings; "
        "use weight=attngen.weights.dropout(p, seed)"
    )
