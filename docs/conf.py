"""Configuration of Sphinx; get_started.md says how to build."""

import mmseg_autodeeplab

project = 'mmseg_autodeeplab'
author = copyright = 'mmseg_autodeeplab authors'
release = mmseg_autodeeplab.__version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
]
exclude_patterns = ['_build']
html_theme = 'furo'
myst_heading_anchors = 3

autodoc_member_order = 'bysource'
# Docstrings name the types; those that they inherit are other libraries'.
autodoc_typehints = 'none'
autodoc_inherit_docstrings = False
napoleon_use_ivar = True
