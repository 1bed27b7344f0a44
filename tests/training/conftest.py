import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def processes():
    """The helper module `processes`: commands in processes of their own, alone or as a group."""
    here = str(Path(__file__).parent)
    sys.path.insert(0, here)
    import processes as module

    yield module
    sys.path.remove(here)
