# First of all imports: mmseg's own cannot do without mmcv.ops, for which the
# plugin puts a stand-in where they are missing.
import mmseg_autodeeplab  # noqa: F401
