import pytest


@pytest.fixture(
    params=[
        (33, 33),
        (64, 64),
        (96, 96),
        (97, 97),
        (100, 100),
        (120, 120),
        (224, 224),
        (321, 321),
        (97, 160),
    ]
)
def size(request):
    """Height and width of an image: the smallest, odd, even, not square."""
    return request.param
