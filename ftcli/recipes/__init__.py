"""Recipes that any config can build on: `extends: package:ftcli/recipes/NAME.yaml`."""
