"""Holds the built-in row checks, one a module, each as `CHECK`: to add one, add a module here.

A module is called like its check. Imports none of them: the settings are read by their names alone.
"""

import pkgutil

ROW_CHECK_NAMES = tuple(module.name for module in pkgutil.iter_modules(__path__))
