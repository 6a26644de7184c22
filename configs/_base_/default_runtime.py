_base_ = ['mmseg::_base_/default_runtime.py']

# The one place that names the plugin: a config that sets custom_imports
# replaces this, it is not merged.
custom_imports = dict(
    imports=['mmseg_autodeeplab'], allow_failed_imports=False
)

# MMEngine draws the data order before it reads a checkpoint, so only a fixed
# seed lets a resumed run go on with the same order.
randomness = dict(seed=0)
