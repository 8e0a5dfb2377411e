"""Softmax attention on random inputs: exact expectations of its saturation and of its gradients (SMT, appendix C).

One head, n queries and n keys, no mask: S = QKᵀ/√d, P = softmax(S), output PV; entries of Q and K are N(0, scale), as in the
appendix of one variance, those of V and of the output's gradient N(0, 1), all independent. Given a query q its logits are
independent N(0, s²), s² = scale·|q|²/d = scale²·ℓ, so that every moment of its weights p is a one-dimensional integral: with
Z = Σ exp(s z_j) and 1/Z^K = ∫ t^(K-1) exp(-tZ) dt / Γ(K),

    E[Π p_i^k_i z_i^r_i] = 1/Γ(K) ∫ du Π ψ(k_i, r_i)(u) · φ(u)^(n-m),   ψ(k, r)(u) = E[z^r exp(k(u+sz) - exp(u+sz))],  φ = ψ(0, 0)

over m distinct keys, K = Σ k_i, t = exp(u). The gradients' mean squares per entry follow (dq = Σ p_j (g_j - ḡ) k_j / √d etc.):

    V: E[Σ p²]     K: scale · E[ℓ D]     Q: scale · E[((d-1) D + W) / d]
    D = Σ p² - 2 Σ p³ + (Σ p²)²,  W = Σ p_j² (z_j - Σ p z)²
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import roots_genlaguerre

_Z = np.linspace(-9.0, 9.0, 901)  # standard deviations
_WEIGHT = np.exp(-(_Z**2) / 2) / math.sqrt(2 * math.pi) * (_Z[1] - _Z[0])
_NODES = 7  # for the length of q


class Moments:
    """Moments of the softmax of n independent N(0, s²) logits."""

    def __init__(self, n: int, s: float) -> None:
        self.n = n
        self.u = np.linspace(-9 * s - math.log(n) - 12, 9 * s + 6, 1600)
        self.x = self.u[:, None] + s * _Z[None, :]
        with np.errstate(over="ignore"):
            self.cut = np.exp(-np.exp(self.x))
        self.known: dict[tuple[int, int], NDArray[np.float64]] = {}
        self.phi = self.psi(0, 0)

    def psi(self, k: int, r: int) -> NDArray[np.float64]:
        """ψ(k, r) at all u."""
        if (k, r) not in self.known:
            # exp(k x - e^x) in one: neither factor alone stays finite.
            body = self.cut if k == 0 else np.exp(np.minimum(k * self.x, 700.0)) * self.cut
            self.known[k, r] = body @ (_WEIGHT * _Z**r)
        return self.known[k, r]

    def mean(self, *powers: tuple[int, int]) -> float:
        """E[Π p_i^k_i z_i^r_i] over distinct keys, `powers` being the (k_i, r_i)."""
        product = self.phi ** (self.n - len(powers))
        for k, r in powers:
            product = product * self.psi(k, r)
        return float(product.sum() * (self.u[1] - self.u[0]) / math.gamma(sum(k for k, _ in powers)))


def _given_length(n: int, s: float) -> tuple[float, float, float]:
    """E of Σp², D and W for logits of standard deviation s."""
    m, pairs = Moments(n, s), n * (n - 1)
    p2 = n * m.mean((2, 0))
    d = p2 - 2 * n * m.mean((3, 0)) + n * m.mean((4, 0)) + pairs * m.mean((2, 0), (2, 0))
    w = n * m.mean((2, 2)) - 2 * (n * m.mean((3, 2)) + pairs * m.mean((1, 1), (2, 1)))
    w += n * m.mean((4, 2)) + pairs * (m.mean((2, 2), (2, 0)) + 2 * m.mean((3, 1), (1, 1)))
    w += pairs * (n - 2) * m.mean((1, 1), (1, 1), (2, 0))
    return p2, d, w


def analytic(n: int, d_k: int, scale: float) -> dict[str, float]:
    """Expected Σp² (1/n: uniform, 1: saturated) and root-mean-square gradients of Q, K and V.

    Args:
        n: queries, and keys.
        d_k: width of the head.
        scale: standard deviation of the logits S where |q| has its root-mean-square length.
    """
    halves, weights = roots_genlaguerre(_NODES, d_k / 2 - 1)  # |q|²/(2 scale) is Gamma(d/2)
    weights = weights / weights.sum()
    p2 = q = k = 0.0
    for half, weight in zip(halves, weights):
        length = 2 * half / d_k  # ℓ
        a, b, c = _given_length(n, scale * math.sqrt(length))
        p2 += weight * a
        q += weight * scale * ((d_k - 1) * b + c) / d_k
        k += weight * scale * length * b
    return {"sum_p2": float(p2), "q": math.sqrt(q), "k": math.sqrt(k), "v": math.sqrt(p2)}


def measured(n: int, d_k: int, scale: float, repeats: int, seed: int) -> dict[str, float]:
    """The same, by autograd in float64 on random draws."""
    generator = torch.Generator().manual_seed(seed)

    def draw(sd: float = 1.0) -> torch.Tensor:
        return (sd * torch.randn(repeats, n, d_k, generator=generator, dtype=torch.float64)).requires_grad_()

    query, key, value = draw(math.sqrt(scale)), draw(math.sqrt(scale)), draw()
    weights = torch.softmax(query @ key.transpose(1, 2) / math.sqrt(d_k), dim=-1)
    (weights @ value).backward(draw().detach())
    found = {"sum_p2": weights.detach().square().sum(dim=-1).mean().item()}
    for name, tensor in (("q", query), ("k", key), ("v", value)):
        assert tensor.grad is not None
        found[name] = tensor.grad.square().mean().sqrt().item()
    return found
