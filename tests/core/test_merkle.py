"""Merkle trees, against RFC 6962 by the letter."""

from __future__ import annotations

from hashlib import sha256

import pytest

import bill_oracle
from brivionix_billing.merkle import RootBuilder, inclusion_proof, leaf_hash, merkle_root, root_from_proof

SIZES = range(1, 41)


def leaves(size: int) -> list[bytes]:
    """Leaf hashes that are all different."""
    return [leaf_hash(str(number).encode()) for number in range(size)]


# The inputs and the roots of the reference implementation's tests (certificate-transparency, merkle_tree_test).
VECTORS = [bytes.fromhex(x) for x in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")] + [
    bytes(range(0x60, 0x70))
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(1, 9))
def test_published_vectors(size: int) -> None:
    """The roots are those that the reference implementation of RFC 6962 publishes."""
    hashed = [leaf_hash(data) for data in VECTORS[:size]]
    assert merkle_root(hashed).hex() == ROOTS[size - 1]
    assert bill_oracle.root(hashed).hex() == ROOTS[size - 1]


def test_no_leaf_at_all() -> None:
    """The root of nothing is the hash of nothing."""
    assert merkle_root([]) == sha256(b"").digest() == RootBuilder().root()


@pytest.mark.parametrize("size", [*SIZES, 255, 256, 257])
def test_roots(size: int) -> None:
    """A root is that of the plain recursion, whether leaves come at once, one by one or in two parts."""
    given = leaves(size)
    expected = bill_oracle.root(given)
    assert merkle_root(given) == expected
    one_by_one, in_parts = RootBuilder(), RootBuilder()
    for leaf in given:
        one_by_one.extend([leaf])
    in_parts.extend(given[: size // 3])
    in_parts.extend(given[size // 3 :])
    assert one_by_one.root() == in_parts.root() == expected
    assert one_by_one.size == in_parts.size == size


@pytest.mark.parametrize("size", SIZES)
def test_proofs(size: int) -> None:
    """Every leaf has the proof of the RFC, and it leads to the root."""
    given = leaves(size)
    for index, leaf in enumerate(given):
        path = inclusion_proof(given, index)
        assert path == bill_oracle.inclusion(given, index)
        assert root_from_proof(leaf, index, size, path) == merkle_root(given)


@pytest.mark.parametrize("size", SIZES)
def test_nothing_else_is_proven(size: int) -> None:
    """Another leaf, another index, another sibling, a longer or a shorter path never leads to the root."""
    given = leaves(size)
    root = merkle_root(given)
    for index, leaf in enumerate(given):
        path = inclusion_proof(given, index)
        assert root_from_proof(leaf_hash(b"other"), index, size, path) != root
        for other in (*range(-2, size + 2), 2**70):
            assert other == index or root_from_proof(leaf, other, size, path) != root
        for place in range(len(path)):
            changed = [*path]
            changed[place] = bytes([changed[place][0] ^ 1]) + changed[place][1:]
            assert root_from_proof(leaf, index, size, changed) != root
        assert root_from_proof(leaf, index, size, [*path, root]) != root
        if path:
            assert root_from_proof(leaf, index, size, path[:-1]) is None
            swapped = path[::-1]
            assert swapped == path or root_from_proof(leaf, index, size, swapped) != root


@pytest.mark.parametrize("size", SIZES)
def test_another_size(size: int) -> None:
    """A size under which the leaf stands elsewhere in the tree proves nothing, nor does a size of none."""
    given = leaves(size)
    root = merkle_root(given)
    for index, leaf in enumerate(given):
        path = inclusion_proof(given, index)
        for other in range(-1, 90):
            found = root_from_proof(leaf, index, other, path)
            # RFC 6962 commits to no size: where two sizes put an index at the same turns, nothing tells them apart.
            assert found != root or _turns(index, other) == _turns(index, size)


def _turns(index: int, size: int) -> list[bool]:
    if size <= 1:
        return []
    k = bill_oracle.split(size)
    return [False, *_turns(index, k)] if index < k else [True, *_turns(index - k, size - k)]


def test_a_node_is_no_leaf() -> None:
    """Two leaves taken for the data of one leaf have another hash than their node."""
    left, right = leaves(2)
    assert leaf_hash(left + right) != merkle_root([left, right])
