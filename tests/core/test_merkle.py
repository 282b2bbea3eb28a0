"""Merkle trees, compared with the definitions of RFC 6962."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bill_oracle
from brivionix_billing.merkle import (
    RootBuilder,
    extend_trees,
    hash_pairs,
    inclusion_proof,
    leaf_hash,
    merkle_root,
    root_from_proof,
)

SIZES = range(1, 41)


def leaves(size: int) -> list[bytes]:
    """Return distinct leaf hashes."""
    return [leaf_hash(str(number).encode()) for number in range(size)]


# Inputs and roots from the tests of the reference implementation (certificate-transparency, merkle_tree_test).
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
def test_roots_match_the_published_vectors(size: int) -> None:
    """The roots are those published by the reference implementation of RFC 6962."""
    hashed = [leaf_hash(data) for data in VECTORS[:size]]
    assert merkle_root(hashed).hex() == ROOTS[size - 1]
    assert bill_oracle.root(hashed).hex() == ROOTS[size - 1]


def test_the_root_of_no_leaves_is_the_hash_of_nothing() -> None:
    """The root of an empty tree is the hash of the empty string."""
    assert merkle_root([]) == sha256(b"").digest() == RootBuilder().root()


@pytest.mark.parametrize("size", [*SIZES, 255, 256, 257])
def test_a_root_matches_the_recursive_definition(size: int) -> None:
    """A root matches the recursive definition, whether leaves are added at once, one by one or in two parts."""
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
def test_every_inclusion_proof_leads_to_the_root(size: int) -> None:
    """The inclusion proof of each leaf is that of the RFC, and leads to the root."""
    given = leaves(size)
    for index, leaf in enumerate(given):
        path = inclusion_proof(given, index)
        assert path == bill_oracle.inclusion(given, index)
        assert root_from_proof(leaf, index, size, path) == merkle_root(given)


@pytest.mark.parametrize("size", SIZES)
def test_an_altered_proof_does_not_lead_to_the_root(size: int) -> None:
    """A different leaf, index, sibling or path length never leads to the root."""
    given = leaves(size)
    root = merkle_root(given)
    for index, leaf in enumerate(given):
        path = inclusion_proof(given, index)
        assert root_from_proof(leaf_hash(b"other"), index, size, path) != root
        for other in (*range(-2, size + 2), 2**70):
            assert other == index or root_from_proof(leaf, other, size, path) != root
        for level in range(len(path)):
            changed = [*path]
            changed[level] = bytes([changed[level][0] ^ 1]) + changed[level][1:]
            assert root_from_proof(leaf, index, size, changed) != root
        assert root_from_proof(leaf, index, size, [*path, root]) != root
        if path:
            assert root_from_proof(leaf, index, size, path[:-1]) is None
            reversed_path = path[::-1]
            assert reversed_path == path or root_from_proof(leaf, index, size, reversed_path) != root


@pytest.mark.parametrize("size", SIZES)
def test_a_different_tree_size_does_not_lead_to_the_root(size: int) -> None:
    """A tree size in which the leaf has a different position does not lead to the root."""
    given = leaves(size)
    root = merkle_root(given)
    for index, leaf in enumerate(given):
        path = inclusion_proof(given, index)
        for other in range(-1, 90):
            computed = root_from_proof(leaf, index, other, path)
            # RFC 6962 does not commit to the size: two sizes with the same turns for an index have the same proof.
            assert computed != root or _turns(index, other) == _turns(index, size)


def _turns(index: int, size: int) -> list[bool]:
    """Return the turns from the root to a leaf: true for right."""
    if size <= 1:
        return []
    k = bill_oracle.split(size)
    return [False, *_turns(index, k)] if index < k else [True, *_turns(index - k, size - k)]


def test_a_node_hash_differs_from_a_leaf_hash() -> None:
    """Two leaf hashes hashed as the data of one leaf differ from the hash of their node."""
    left, right = leaves(2)
    assert leaf_hash(left + right) != merkle_root([left, right])


@given(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), max_size=4))
def test_trees_that_are_extended_together(sizes: list[tuple[int, int]]) -> None:
    """Trees that get packed leaves together, in two steps, have the roots of their leaves."""
    trees = [RootBuilder() for _ in sizes]
    all_leaves = [leaves(first + second) for first, second in sizes]
    levels = []

    def hash_level(packed: bytes) -> bytes:
        levels.append(len(packed))
        return hash_pairs(packed)

    splits = [(each[:first], each[first:]) for each, (first, _) in zip(all_leaves, sizes, strict=True)]
    for step in range(2):
        parts = [(tree, b"".join(split[step])) for tree, split in zip(trees, splits, strict=True)]
        extend_trees(parts, hash_level)
    assert [tree.root() for tree in trees] == list(map(bill_oracle.root, all_leaves))
    assert len(levels) <= 2 * 7  # one call per level, not per tree
