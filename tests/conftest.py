# First of all imports: mmseg's own cannot do without mmcv.ops, for which the
# plugin puts a stand-in where they are missing.
import mmseg_autodeeplab  # noqa: F401  # isort: skip
import pytest
from mmengine.visualization import Visualizer
from mmseg.visualization import SegLocalVisualizer


@pytest.fixture(autouse=True)
def forget_visualizers():
    """MMEngine keeps all of a process, and hooks take the one named last."""

    def forget():
        for cls in (Visualizer, SegLocalVisualizer):
            cls._instance_dict.clear()

    yield forget
    forget()
