from __future__ import annotations

from collections.abc import Iterator

import pytest

from .lambda_service import LambdaService


@pytest.fixture(scope="package")
def moto() -> Iterator[str]:
    from local_moto import moto_server

    # One of its own: the janitor looks at everything that there is.
    with moto_server() as server:
        yield server.endpoint


@pytest.fixture
def service(moto: str) -> Iterator[LambdaService]:
    with LambdaService(moto).running() as service:
        yield service
