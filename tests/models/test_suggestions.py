"""Networks that refusals suggest can be built for the size of the images."""

import pytest

from models import create_model
from models.suggestions import SUGGESTED, suggested


@pytest.mark.parametrize("kind", SUGGESTED)
@pytest.mark.parametrize("size", [8, 16, 32, 64, 96, 224])
def test_what_is_suggested_fits(kind, size):
    features = create_model(suggested(kind, size), num_classes=3, image_size=size).feature_shapes()
    assert features.blocks
    tokens = features.stages[0][1] * features.stages[0][2]
    assert 4 <= tokens <= 1024
