"""The example that comes with ftcli: whether two requests to a support desk ask for the same.

The sentences were written for this project; a matter that one split asks about never comes up in another. Half of
the pairs are the same request, often in other words; the others share words and ask for something else.
"""

CONFIG = "package:ftcli/quickstart/quickstart.yaml"
