"""Sums of products: shapes as NumPy computes them, operations as a loop counts them."""

import numpy as np
import pytest

from convspec.contract.matrix_products import attention_macs, einsum, projected_attention_macs
from convspec.contract.network_words import NotKnown, Tensor

EQUATIONS = {
    "bij,bkj->bik": ((2, 3, 5), (2, 4, 5), 120), "nchw,cd->nhwd": ((2, 3, 4, 5), (3, 6), 720),
    "...ij,jk->...ik": ((2, 7, 3, 5), (5, 4), 840), "...ij,...jk": ((2, 3, 5), (2, 5, 4), 120),
    "i,j->ij": ((3,), (4,), 12), "ij,ij->": ((3, 4), (3, 4), 12), "bij,ik": ((2, 3, 5), (3, 4), 120),
    "bij,bij->bij": ((1, 3, 4), (2, 3, 4), 24),
    "ij,jk->ik": ((0, 3), (3, 4), 0),
}  # fmt: skip


@pytest.mark.parametrize(("equation", "case"), EQUATIONS.items())
def test_einsum_of_two(equation, case):
    *shapes, macs = case
    placed = einsum(equation, [Tensor(0, shapes[0]), shapes[1]])
    assert list(placed.shapes) == [np.einsum(equation, *map(np.ones, shapes)).shape]
    assert placed.macs == macs


def test_einsum_of_one_costs_nothing_and_of_three_what_its_order_says():
    assert einsum("nchw->nhwc", [(2, 3, 4, 5)]).macs == 0
    three = einsum("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)])
    assert (list(three.shapes), three.macs) == ([(2, 5)], None)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("ij,jk->ik", [(2, 3), (4, 5)]), ("ij->ik", [(2, 3)]), ("ij,jk->ik", [(2, 3)]), ("ij,jk", [(2, 3, 4), (4, 5)]),
     ("ij", [Tensor(0, None)]), ("ijk", [(2, 3)])],
)  # fmt: skip
def test_an_equation_that_does_not_fit(equation, shapes):
    with pytest.raises(NotKnown):
        einsum(equation, shapes)


def test_attention_is_its_products():
    q, k, v = np.ones((2, 6, 5)), np.ones((2, 9, 5)), np.ones((2, 9, 3))
    scores = einsum("bqe,bke->bqk", [q.shape, k.shape]).macs + einsum("bqk,bkv->bqv", [(2, 6, 9), v.shape]).macs
    assert attention_macs(6, 9, 5 + 3, batch=2) == scores
    linear = 12 * 5 * 8 + 18 * 5 * 8 + 18 * 3 * 4 + 12 * 4 * 7
    inner = attention_macs(6, 9, 8 + 4, batch=2)
    assert projected_attention_macs([q.shape, k.shape, v.shape], (8, 4, 7)) == linear + inner
    one = projected_attention_macs([q.shape], (5, 5, 5))
    assert one == projected_attention_macs([q.shape] * 3, (5, 5, 5)) == 4 * 12 * 5 * 5 + attention_macs(6, 6, 10, 2)
    assert projected_attention_macs([(6, 2, 5)], (5, 5, 5), [0]) == one
    assert projected_attention_macs([q.shape], (5, 5, 5), further=1) == one + 12 * 10
    assert projected_attention_macs([q.shape, None], (5, 5, 5)) is None
