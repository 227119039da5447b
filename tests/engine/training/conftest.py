import pytest

from dataset import DATASETS
from tests.engine.training.few import register_few


@pytest.fixture(autouse=True, scope="package")
def few():
    """The data set `few`."""
    with DATASETS.temporarily():
        register_few()
        yield
