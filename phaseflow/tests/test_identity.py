"""Tests of the identity that the reverse proxy passes on."""

from __future__ import annotations

import pytest

from phaseflow import identity
from phaseflow.identity import Identity, Role

PROOF = (b"x-phaseflow-identity", b"secret")
USER = (b"x-phaseflow-user", "jörg@example.com".encode())
ROLE = (b"x-phaseflow-role", b"operator")


def test_the_proxy_vouches_for_a_person() -> None:
    headers = [(b"host", b"x"), PROOF, USER, ROLE]
    assert identity.of(headers, "secret") == Identity("jörg@example.com", Role.OPERATOR)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [USER, ROLE],
        [(PROOF[0], b""), USER, ROLE],
        [(PROOF[0], b"guess"), USER, ROLE],
        [PROOF, (PROOF[0], b"guess"), USER, ROLE],
        [PROOF, USER, (USER[0], b"anna"), ROLE],
        [PROOF, USER, ROLE, (ROLE[0], b"admin")],
        [PROOF, ROLE],
        [PROOF, USER],
        [PROOF, (USER[0], b""), ROLE],
        [PROOF, USER, (ROLE[0], b"root")],
        [PROOF, USER, (ROLE[0], b"ADMIN")],
    ],
)
def test_other_headers_are_nobody(headers: list[tuple[bytes, bytes]]) -> None:
    assert identity.of(headers, "secret") is None


def test_without_a_secret_everybody_is_nobody() -> None:
    assert identity.of([(PROOF[0], b""), USER, ROLE], "") is None
