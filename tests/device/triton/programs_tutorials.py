"""The programs that a newcomer to Triton writes first, as they would write them: vector addition,
fused softmax, matrix product, dropout, layer norm forward and backward, fused attention. The oracle
is numpy in fp64; the interpreter takes minutes for some."""

import numpy as np
import triton
import triton.language as tl
from harness import Case


@triton.jit
def add_kernel(x_ptr, y_ptr, output_ptr, n_elements, BLOCK_SIZE: tl.constexpr):
    pid = tl.program_id(axis=0)
    offsets = pid * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offsets < n_elements
    x = tl.load(x_ptr + offsets, mask=mask)
    y = tl.load(y_ptr + offsets, mask=mask)
    tl.store(output_ptr + offsets, x + y, mask=mask)


@triton.jit
def softmax_kernel(output_ptr, input_ptr, row_stride, n_rows, n_cols, BLOCK_SIZE: tl.constexpr):
    start, step = tl.program_id(0), tl.num_programs(0)
    for row in tl.range(start, n_rows, step, num_stages=2):
        cols = tl.arange(0, BLOCK_SIZE)
        mask = cols < n_cols
        x = tl.load(input_ptr + row * row_stride + cols, mask=mask, other=-float("inf"))
        numerator = tl.exp(x - tl.max(x, axis=0))
        tl.store(output_ptr + row * row_stride + cols, numerator / tl.sum(numerator, axis=0),
                 mask=mask)  # fmt: skip


@triton.jit
def leaky_relu(x):
    return tl.where(x >= 0, x, 0.01 * x)


@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, c_ptr, M, N, K, stride_am, stride_ak, stride_bk, stride_bn, stride_cm, stride_cn,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    ACTIVATION: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(axis=0)
    n_m, n_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    n_in_group = GROUP_M * n_n
    group = pid // n_in_group
    first_m = group * GROUP_M
    group_size = min(n_m - first_m, GROUP_M)
    pid_m = first_m + ((pid % n_in_group) % group_size)
    pid_n = (pid % n_in_group) // group_size
    tl.assume(pid_m >= 0)
    offs_m = (pid_m * BLOCK_M + tl.arange(0, BLOCK_M)) % M
    offs_n = (pid_n * BLOCK_N + tl.arange(0, BLOCK_N)) % N
    offs_k = tl.arange(0, BLOCK_K)
    a_ptrs = a_ptr + (offs_m[:, None] * stride_am + offs_k[None, :] * stride_ak)
    b_ptrs = b_ptr + (offs_k[:, None] * stride_bk + offs_n[None, :] * stride_bn)
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, tl.cdiv(K, BLOCK_K)):
        a = tl.load(a_ptrs, mask=offs_k[None, :] < K - k * BLOCK_K, other=0.0)
        b = tl.load(b_ptrs, mask=offs_k[:, None] < K - k * BLOCK_K, other=0.0)
        accumulator = tl.dot(a, b, accumulator)
        a_ptrs += BLOCK_K * stride_ak
        b_ptrs += BLOCK_K * stride_bk
    if ACTIVATION == "leaky_relu":
        accumulator = leaky_relu(accumulator)
    c = accumulator.to(tl.float16)
    offs_cm = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_cn = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = (offs_cm[:, None] < M) & (offs_cn[None, :] < N)
    tl.store(c_ptr + stride_cm * offs_cm[:, None] + stride_cn * offs_cn[None, :], c, mask=mask)


@triton.jit
def seeded_dropout(x_ptr, output_ptr, n_elements, p, seed, BLOCK_SIZE: tl.constexpr):
    offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offsets < n_elements
    x = tl.load(x_ptr + offsets, mask=mask)
    keep = tl.rand(seed, offsets) > p
    tl.store(output_ptr + offsets, tl.where(keep, x / (1 - p), 0.0), mask=mask)


@triton.jit
def layer_norm_fwd(X, Y, W, B, Mean, Rstd, stride, N, eps, BLOCK_SIZE: tl.constexpr):
    row = tl.program_id(0)
    Y += row * stride
    X += row * stride
    _mean = tl.zeros([BLOCK_SIZE], dtype=tl.float32)
    for off in range(0, N, BLOCK_SIZE):
        cols = off + tl.arange(0, BLOCK_SIZE)
        _mean += tl.load(X + cols, mask=cols < N, other=0.0).to(tl.float32)
    mean = tl.sum(_mean, axis=0) / N
    _var = tl.zeros([BLOCK_SIZE], dtype=tl.float32)
    for off in range(0, N, BLOCK_SIZE):
        cols = off + tl.arange(0, BLOCK_SIZE)
        x = tl.load(X + cols, mask=cols < N, other=0.0).to(tl.float32)
        x = tl.where(cols < N, x - mean, 0.0)
        _var += x * x
    rstd = 1 / tl.sqrt(tl.sum(_var, axis=0) / N + eps)
    tl.store(Mean + row, mean)
    tl.store(Rstd + row, rstd)
    for off in range(0, N, BLOCK_SIZE):
        cols = off + tl.arange(0, BLOCK_SIZE)
        mask = cols < N
        w = tl.load(W + cols, mask=mask)
        b = tl.load(B + cols, mask=mask)
        x = tl.load(X + cols, mask=mask, other=0.0).to(tl.float32)
        tl.store(Y + cols, (x - mean) * rstd * w + b, mask=mask)


@triton.jit
def layer_norm_bwd_dx(DX, DY, DW, DB, X, W, Mean, Rstd, Lock, stride, N, GROUP: tl.constexpr,
                      BLOCK_N: tl.constexpr):  # fmt: skip
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK_N)
    mask = cols < N
    X += row * stride
    DY += row * stride
    DX += row * stride
    lock_id = row % GROUP
    Lock += lock_id
    Count = Lock + GROUP
    DW = DW + lock_id * N + cols
    DB = DB + lock_id * N + cols
    x = tl.load(X + cols, mask=mask, other=0).to(tl.float32)
    dy = tl.load(DY + cols, mask=mask, other=0).to(tl.float32)
    w = tl.load(W + cols, mask=mask).to(tl.float32)
    mean = tl.load(Mean + row)
    rstd = tl.load(Rstd + row)
    xhat = tl.where(mask, (x - mean) * rstd, 0.0)
    wdy = tl.where(mask, w * dy, 0.0)
    c1 = tl.sum(xhat * wdy, axis=0) / N
    c2 = tl.sum(wdy, axis=0) / N
    tl.store(DX + cols, (wdy - (xhat * c1 + c2)) * rstd, mask=mask)
    partial_dw = dy * xhat
    partial_db = dy
    while tl.atomic_cas(Lock, 0, 1) == 1:
        pass
    count = tl.load(Count)
    if count == 0:
        tl.atomic_xchg(Count, 1)
    else:
        partial_dw += tl.load(DW, mask=mask)
        partial_db += tl.load(DB, mask=mask)
    tl.store(DW, partial_dw, mask=mask)
    tl.store(DB, partial_db, mask=mask)
    tl.debug_barrier()
    tl.atomic_xchg(Lock, 0)


@triton.jit
def layer_norm_bwd_dwdb(DW, DB, FINAL_DW, FINAL_DB, M, N, BLOCK_M: tl.constexpr,
                        BLOCK_N: tl.constexpr):  # fmt: skip
    cols = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    dw = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    db = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for i in range(0, M, BLOCK_M):
        rows = i + tl.arange(0, BLOCK_M)
        mask = (rows[:, None] < M) & (cols[None, :] < N)
        offs = rows[:, None] * N + cols[None, :]
        dw += tl.load(DW + offs, mask=mask, other=0.0)
        db += tl.load(DB + offs, mask=mask, other=0.0)
    tl.store(FINAL_DW + cols, tl.sum(dw, axis=0), mask=cols < N)
    tl.store(FINAL_DB + cols, tl.sum(db, axis=0), mask=cols < N)


@triton.jit
def attn_fwd(sm_scale, M, Z, H, q_ptr, k_ptr, v_ptr, o_ptr, N_CTX, HEAD_DIM: tl.constexpr,
             BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, CAUSAL: tl.constexpr):  # fmt: skip
    start_m = tl.program_id(0)
    off_hz = tl.program_id(1)
    y_dim = Z * H * N_CTX
    desc_q = tl.make_tensor_descriptor(q_ptr, [y_dim, HEAD_DIM], [HEAD_DIM, 1], [BLOCK_M, HEAD_DIM])
    desc_k = tl.make_tensor_descriptor(k_ptr, [y_dim, HEAD_DIM], [HEAD_DIM, 1], [BLOCK_N, HEAD_DIM])
    desc_v = tl.make_tensor_descriptor(v_ptr, [y_dim, HEAD_DIM], [HEAD_DIM, 1], [BLOCK_N, HEAD_DIM])
    desc_o = tl.make_tensor_descriptor(o_ptr, [y_dim, HEAD_DIM], [HEAD_DIM, 1], [BLOCK_M, HEAD_DIM])
    offset_y = off_hz * N_CTX
    offs_m = start_m * BLOCK_M + tl.arange(0, BLOCK_M)
    m_i = tl.zeros([BLOCK_M], dtype=tl.float32) - float("inf")
    l_i = tl.zeros([BLOCK_M], dtype=tl.float32) + 1.0
    acc = tl.zeros([BLOCK_M, HEAD_DIM], dtype=tl.float32)
    qk_scale = sm_scale * 1.44269504
    q = desc_q.load([offset_y + start_m * BLOCK_M, 0])
    high = (start_m + 1) * BLOCK_M if CAUSAL else N_CTX
    for start_n in tl.range(0, high, BLOCK_N):
        start_n = tl.multiple_of(start_n, BLOCK_N)
        k = desc_k.load([offset_y + start_n, 0]).T
        qk = tl.dot(q, k) * qk_scale
        if CAUSAL:
            offs_n = start_n + tl.arange(0, BLOCK_N)
            qk = qk + tl.where(offs_m[:, None] >= offs_n[None, :], 0, -1.0e6)
        m_ij = tl.maximum(m_i, tl.max(qk, 1))
        p = tl.math.exp2(qk - m_ij[:, None])
        alpha = tl.math.exp2(m_i - m_ij)
        acc = acc * alpha[:, None]
        v = desc_v.load([offset_y + start_n, 0])
        acc = tl.dot(p.to(v.dtype), v, acc)
        l_i = l_i * alpha + tl.sum(p, 1)
        m_i = m_ij
    m_i += tl.math.log2(l_i)
    tl.store(M + off_hz * N_CTX + offs_m, m_i)
    desc_o.store([offset_y + start_m * BLOCK_M, 0], (acc / l_i[:, None]).to(q.dtype))


def cases():
    rng = np.random.default_rng(10)
    f = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    n = 9432
    yield Case(add_kernel, (triton.cdiv(n, 1024),), [f(n), f(n), np.zeros(n, np.float32), n],
               {"BLOCK_SIZE": 1024}, want=lambda a: {2: a[0] + a[1]})  # fmt: skip
    x = f(13, 781)
    yield Case(softmax_kernel, (4,), [np.zeros_like(x), x, 781, 13, 781], {"BLOCK_SIZE": 1024}, "",
               1e-5, 1e-7, want=lambda a: {0: softmax(a[1])})  # fmt: skip
    for activation, m, n, k in (("", 70, 51, 77), ("leaky_relu", 64, 64, 128)):
        a, b = f(m, k).astype(np.float16), f(k, n).astype(np.float16)
        args = [a, b, np.zeros((m, n), np.float16), m, n, k, k, 1, n, 1, n, 1]
        consts = {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 32, "GROUP_M": 2,
                  "ACTIVATION": activation}  # fmt: skip
        yield Case(matmul_kernel, (triton.cdiv(m, 32) * triton.cdiv(n, 64),), args, consts,
                   activation, 1e-3, 1e-3,
                   want=lambda a, act=activation: {2: matmul(a, act)})  # fmt: skip
    args = [f(700), np.zeros(700, np.float32), 700, 0.4, 123]
    yield Case(seeded_dropout, (3,), args, {"BLOCK_SIZE": 256}, "", 1e-6)
    rows, cols = 9, 300
    x, w, b = f(rows, cols) * 2 + 1, f(cols), f(cols)
    zeros = [np.zeros(rows, np.float32), np.zeros(rows, np.float32)]
    yield Case(layer_norm_fwd, (rows,), [x, np.zeros_like(x), w, b, *zeros, cols, cols, 1e-5],
               {"BLOCK_SIZE": 128}, "", 1e-4, 1e-5, want=norm_forward)  # fmt: skip
    mean, rstd = norm_statistics(x)
    partial = [np.zeros((4, cols), np.float32) for _ in range(2)]
    args = [np.zeros_like(x), f(rows, cols), *partial, x, w, mean.astype(np.float32),
            rstd.astype(np.float32), np.zeros(8, np.int32), cols, cols]  # fmt: skip
    yield Case(layer_norm_bwd_dx, (rows,), args, {"GROUP": 4, "BLOCK_N": 512}, "", 1e-4, 1e-5,
               want=norm_backward)  # fmt: skip
    args = [f(7, cols), f(7, cols), np.zeros(cols, np.float32), np.zeros(cols, np.float32), 7, cols]
    yield Case(layer_norm_bwd_dwdb, (3,), args, {"BLOCK_M": 4, "BLOCK_N": 128}, "", 1e-5, 1e-5,
               want=lambda a: {2: a[0].sum(0), 3: a[1].sum(0)})  # fmt: skip
    z, h, n, dim = 1, 2, 96, 32
    for causal in (0, 1):
        q, k, v = (f(z * h * n, dim).astype(np.float16) for _ in range(3))
        args = [0.5, np.zeros(z * h * n, np.float32), z, h, q, k, v, np.zeros_like(q), n]
        consts = {"HEAD_DIM": dim, "BLOCK_M": 32, "BLOCK_N": 16, "CAUSAL": causal}
        yield Case(attn_fwd, (n // 32, z * h), args, consts, f"causal{causal}", 4e-3, 4e-3,
                   want=lambda a, c=causal: {7: attention(a, c, 2)})  # fmt: skip


def softmax(x):
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def matmul(args, activation):
    c = args[0].astype(np.float64) @ args[1].astype(np.float64)
    return np.where(c >= 0, c, 0.01 * c) if activation else c


def norm_statistics(x):
    x = x.astype(np.float64)
    return x.mean(1), 1 / np.sqrt(x.var(1) + 1e-5)


def norm_forward(args):
    mean, rstd = norm_statistics(args[0])
    y = (args[0] - mean[:, None]) * rstd[:, None] * args[2] + args[3]
    return {1: y, 4: mean, 5: rstd}


def norm_backward(args):
    dy, x, w = (args[i].astype(np.float64) for i in (1, 4, 5))
    mean, rstd = norm_statistics(x)
    xhat = (x - mean[:, None]) * rstd[:, None]
    wdy = w * dy
    c1, c2 = (xhat * wdy).mean(1)[:, None], wdy.mean(1)[:, None]
    dx = (wdy - (xhat * c1 + c2)) * rstd[:, None]
    group = np.arange(len(x)) % 4
    dw = np.stack([(dy * xhat)[group == g].sum(0) for g in range(4)])
    db = np.stack([dy[group == g].sum(0) for g in range(4)])
    return {0: dx, 2: dw, 3: db, 8: np.repeat([0, 1], 4)}


def attention(args, causal, n_heads):
    q, k, v = (args[i].astype(np.float64).reshape(n_heads, -1, args[4].shape[1]) for i in (4, 5, 6))
    scores = args[0] * q @ k.transpose(0, 2, 1)
    if causal:
        n = scores.shape[-1]
        scores = np.where(np.tril(np.ones((n, n), bool)), scores, -np.inf)
    return (softmax(scores) @ v).reshape(args[4].shape)
